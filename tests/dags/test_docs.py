import runpy

from tests.conftest import REPOSITORY


def test_the_list_of_dags_is_up_to_date(dags):
    docs = runpy.run_path(str(REPOSITORY / "docs" / "dags.py"))
    assert docs["PAGE"].read_text(encoding="utf-8") == docs["render"](dags.values()), "run: python docs/dags.py"
