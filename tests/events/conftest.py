import pytest

from tests.events.stager import Stager
from tests.ledger.conftest import engine, ledger_url, postgres_databases, postgres_url  # noqa: F401


@pytest.fixture
def stager(tmp_path):
    return Stager(tmp_path)
