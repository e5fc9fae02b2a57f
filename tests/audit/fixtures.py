"""The small company, and copies of it to spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from onetouch.ledger import Run
from onetouch.workspace import Workspace, open_workspace

from tests.audit.company import build


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """As it was built: read only."""
    home = tmp_path_factory.mktemp("company")
    workspace = build(home)
    before = state(home)
    yield workspace
    assert state(home) == before


@pytest.fixture
def copy(company: Workspace, tmp_path: Path) -> Workspace:
    """One's own, to write to."""
    shutil.copytree(company.home, tmp_path / "home")
    return open_workspace(tmp_path / "home", environ={})


@pytest.fixture
def last(company: Workspace) -> Run:
    """The company's second run."""
    return company.ledger.last_runs(1)[0]


def state(home: Path) -> dict[str, bytes]:
    """Every file of an installation with what it holds; but SQLite's index of its log, which readers mark."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and not path.name.endswith("-shm")]
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


@pytest.fixture
def files() -> Callable[[Path], dict[str, bytes]]:
    """`state`."""
    return state
