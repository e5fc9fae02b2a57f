import pytest

from tests.events.stager import Stager


@pytest.fixture
def stager(tmp_path):
    return Stager(tmp_path)
