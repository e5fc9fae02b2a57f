"""`--home`, `--policy` and `--json` mean the same before and after a command's name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onetouch.cli import app
from onetouch.workspace import open_ledger
from typer.main import get_command
from typer.testing import CliRunner

RUNNER = CliRunner()
EVERYWHERE = {"--home", "--policy", "--json"}


def commands(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """The words that name each command and each group."""
    yield names
    for name, under in getattr(command, "commands", {}).items():
        yield from commands(under, *names, name)


@pytest.mark.parametrize("names", list(commands(get_command(app))), ids=" ".join)
def test_every_command_and_group_takes_and_shows_them(names: tuple[str, ...]) -> None:
    command: Any = get_command(app)
    for name in names:
        command = command.commands[name]
    assert {option for parameter in command.params for option in parameter.opts} >= EVERYWHERE
    shown = RUNNER.invoke(app, [*names, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for option in EVERYWHERE:
        assert option in shown.stdout


@pytest.mark.parametrize(
    "words",
    ["--home {} --json status", "--home {} status --json", "status --home {} --json", "--json status --home {}",
     "--home {} status --home {} --json"],
)  # fmt: skip
def test_before_or_after(tmp_path: Path, words: str) -> None:
    open_ledger(tmp_path).close()
    result = RUNNER.invoke(app, words.format(tmp_path, tmp_path).split())
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["runs"] == []


@pytest.mark.parametrize(
    "words",
    ["--home {} outbox retry --all --json", "outbox --home {} --json retry --all",
     "outbox retry --all --home {} --json"],
)  # fmt: skip
def test_between_the_names_of_a_group_and_its_command_too(tmp_path: Path, words: str) -> None:
    open_ledger(tmp_path).close()
    result = RUNNER.invoke(app, words.format(tmp_path).split())
    assert json.loads(result.stdout) == {"retried": 0}


@pytest.mark.parametrize("option", ["--home", "--policy"])
@pytest.mark.parametrize("command", [["status"], ["outbox", "retry", "--all"], ["policy", "check", "p.yaml"]])
def test_given_twice_and_different_is_an_error_that_names_both(option: str, command: list[str]) -> None:
    result = RUNNER.invoke(app, [option, "here", *command, option, "there"])
    assert result.exit_code == 1
    assert result.stderr == f"onetouch: {option}: is here before the command and there after it; give one of them\n"


def test_the_policy_that_counts_is_the_one_that_was_given(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("value: {floor: -1}")
    for words in (["--policy", str(bad), "crm", "check"], ["crm", "check", "--policy", str(bad)]):
        result = RUNNER.invoke(app, ["--home", str(tmp_path / "home"), *words])
        assert result.exit_code == 1
        assert f"{bad}: value.floor" in result.stderr


def test_a_stop_needs_no_policy_that_can_be_read(tmp_path: Path) -> None:
    """Whoever stops everything may do so because the policy is broken."""
    open_ledger(tmp_path).close()
    (tmp_path / "bad.yaml").write_text("value: {floor: -1}")
    environment = {"ONETOUCH_POLICY": str(tmp_path / "bad.yaml")}
    result = RUNNER.invoke(app, ["stop", "broken", "--home", str(tmp_path), "--json"], env=environment)
    assert json.loads(result.stdout) == {"stopped": "broken", "begun": True}
