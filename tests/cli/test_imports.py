"""Which libraries a command does without: whoever asks for the status must not wait for those of the delivery.

`make imports` measures what the rest costs.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from onetouch.cli import app
from onetouch.policy import read_policy
from onetouch.workspace import open_workspace

HEAVY = {
    "alembic", "duckdb", "great_expectations", "holidays", "hubspot", "ibis", "jinja2", "matplotlib", "numpy",
    "pandas", "pyarrow", "requests", "scipy", "simple_salesforce", "slack_sdk", "sqlalchemy", "starlette", "uvicorn",
}  # fmt: skip
"""Libraries of ours that take long to import, all together many seconds."""

TABLES = {"numpy", "pandas", "pyarrow"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation in which one run has decided something."""
    home = tmp_path_factory.mktemp("home")
    workspace = open_workspace(home)
    run = workspace.ledger.begin_run(datetime(2025, 11, 18, 10, tzinfo=UTC), read_policy(), False)
    frame = pd.DataFrame(
        {"account_id": ["org-1"], "action": "nurture", "rule": "no PQL", "score": 1.0, "owner_email": ""}
    )
    workspace.lake.write(frame, "decisions", f"{run.run_id}.parquet")
    workspace.lake.write(
        frame[["account_id"]].assign(name="Acme", domain="acme.example"), "signals", f"{run.run_id}.parquet"
    )
    return home


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        ("--help", set()),
        ("status", {"sqlalchemy"}),
        ("stop enough", {"sqlalchemy"}),
        ("resume", {"sqlalchemy"}),
        ("outbox", {"sqlalchemy"}),
        ("decisions --json", {"sqlalchemy", *TABLES}),
        ("explain nobody", {"sqlalchemy", *TABLES}),
        ("policy check {home}/policy.yaml", TABLES),
    ],
)
def test_a_command_imports_what_it_needs(home: Path, command: str, needs: set[str]) -> None:
    (home / "policy.yaml").write_text("{}")
    program = "import sys; from onetouch.cli import app; app(standalone_mode=False)"
    program = f"import atexit, sys; atexit.register(lambda: print('\\n', *sys.modules)); {program}"
    words = command.format(home=home).split()
    done = subprocess.run([sys.executable, "-c", program, *words, "--home", str(home)], capture_output=True, text=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported & HEAVY == needs, done.stderr
    assert "onetouch.stages" not in imported


def test_the_command_line_is_what_the_package_and_python_m_start() -> None:
    done = subprocess.run([sys.executable, "-m", "onetouch.cli", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: onetouch [OPTIONS] COMMAND" in done.stdout
    assert callable(app)


def test_a_command_that_used_the_engine_ends_without_a_word() -> None:
    program = (
        "import duckdb; duckdb.connect().sql('select 1').fetchall(); from onetouch.cli import app; app(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
