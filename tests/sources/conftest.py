import pytest
from onetouch.lake import Lake


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "answers"
    place.mkdir()
    return place
