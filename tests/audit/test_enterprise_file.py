"""The list of enterprises in a file: read by the run that builds signals, kept with it, and used by whoever computes
them again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from onetouch import stages
from onetouch.audit import replay
from onetouch.experiments import compare
from onetouch.policy import PolicyError, read_policy
from onetouch.policy.upgrade import read_stored, stored
from onetouch.signals import read_enterprises, with_enterprises
from onetouch.workspace import Workspace, usable_policy

from tests.audit import company


def named(folder: Path, text: str) -> Path:
    """A policy whose enterprises are those of a file, and nobody else."""
    folder.mkdir(exist_ok=True)
    (folder / "big.txt").write_text(text)
    policy = folder / "policy.yaml"
    policy.write_text("signals: {enterprise_file: big.txt, enterprise_employees: null}\n")
    return policy


def enterprises(workspace: Workspace, run_id: str) -> set[str]:
    table = workspace.lake.read("signals", f"{run_id}.parquet")
    return set(table.loc[table["enterprise_domain"] == 1, "account_id"])


def test_domains_are_read_as_people_write_them(tmp_path: Path) -> None:
    text = "domain,why\n# ours\n\nhttps://www.Big.example/de\n@large.example, a reason\n*.huge.example\nbig.example\n"
    policy = usable_policy(named(tmp_path, text))
    assert read_enterprises(tmp_path, policy) == ["big.example", "large.example", "huge.example"]
    assert read_enterprises(tmp_path, read_policy()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("big.example\nada@big.example\n", r"line 2: 'ada@big\.example' is no domain"),
        ("big\n", "line 1: 'big' is no domain; give one like acme.example"),
        (", a reason\n", "line 1 has no entry before the comma"),
        (None, r"big\.txt cannot be read \(FileNotFoundError\)"),
    ],
)
def test_what_is_no_list_of_domains_is_refused_when_the_policy_is_read(
    tmp_path: Path, text: str | None, said: str
) -> None:
    policy = named(tmp_path, text or "")
    if text is None:
        (tmp_path / "big.txt").unlink()
    with pytest.raises(PolicyError, match=rf"signals\.enterprise_file: .*{said}"):
        usable_policy(policy)


def test_a_run_keeps_what_it_has_read_and_is_made_again_from_it(tmp_path: Path) -> None:
    file = named(tmp_path / "rules", "")
    workspace = company.build(tmp_path / "home", file)
    lake, ledger = workspace.lake, workspace.ledger
    run = company.decided(workspace, workspace.policy, company.AS_OF + timedelta(hours=1))
    listed = lake.read("crm", run.run_id, "accounts.parquet").set_index("account_id")["domain"]["called"]
    assert enterprises(workspace, run.run_id) == set()
    assert not lake.exists("inputs", run.run_id, "enterprises.parquet"), "it was built without a file"

    (tmp_path / "rules" / "big.txt").write_text(f"{listed}\n")
    assert stages.build_signals(workspace, run.run_id)["enterprises"] == 1
    found = enterprises(workspace, run.run_id)
    assert "called" in found
    stages.score(workspace, run.run_id)
    stages.route(workspace, run.run_id)
    assert lake.read("inputs", run.run_id, "enterprises.parquet")["domain"].tolist() == [listed]

    (tmp_path / "rules" / "big.txt").unlink()
    assert replay(lake, ledger, run.run_id).empty
    assert with_enterprises(lake, workspace.policy, run).signals.enterprise_domains == [listed]
    # Another policy that reads events otherwise has them computed anew, from what the run has read.
    other = workspace.policy.changed(signals__growing_ratio=1.75)
    difference = compare(lake, ledger, workspace.policy, other, run)
    assert difference.computed_anew
    assert difference.before["score"].tolist() == difference.after["score"].tolist()


def test_stored_policies_name_no_file() -> None:
    document = stored(read_policy())
    del document["signals"]["enterprise_file"]
    assert read_stored(document | {"format": 3}).signals.enterprise_file is None
