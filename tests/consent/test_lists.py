"""The policy's lists of whom never to contact, and the file beside it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from onetouch.consent import LISTED, Lists, read_listed
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.sandbox.fields import make_id
from onetouch.workspace import open_workspace, usable_policy
from pydantic import ValidationError

NOBODY = pd.DataFrame(columns=list(LISTED)).astype(LISTED)


def policy(**never: object) -> Policy:
    base = read_policy()
    return base.changed(**{f"never_contact__{name}": value for name, value in never.items()})


def listed(tmp_path: Path, text: str | bytes) -> pd.DataFrame:
    (tmp_path / "never.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_listed(tmp_path, policy(file="never.csv"))


def test_entries_of_the_policy_name_accounts_and_people_with_their_reason() -> None:
    lists = Lists(
        policy(
            domains=["https://www.Rival.example/de, a competitor", "@us.example"],
            accounts=["org-7;  a partner"],
            people=["Ada@Larkfield.example\tasked by letter", "u_1"],
        ),
        NOBODY,
    )
    assert str(lists.account(["org-1"], ["rival.example"])) == "never_contact.domains (a competitor)"
    assert str(lists.account(["org-7"], [None])) == "never_contact.accounts (a partner)"
    assert lists.account(["org-1", None], ["notrival.example", "larkfield.example", None]) is None
    assert lists.account(["u_1", "ada@larkfield.example"], []) is None
    assert str(lists.person("ada@larkfield.example")) == "never_contact.people (asked by letter)"
    assert str(lists.person("bob@eu.mail.rival.example")) == "never_contact.domains (a competitor)"
    assert str(lists.person("tester@us.example")) == "never_contact.domains"
    assert str(lists.person(None, None, "u_1")) == "never_contact.people"
    assert lists.person("bob@larkfield.example", "org-7") is None
    assert bool(lists) and not Lists(policy(), NOBODY)


def test_a_salesforce_id_is_the_same_in_both_its_lengths() -> None:
    long = make_id("001", 7)
    for listed_as, asked in ((long, long[:15]), (long[:15], long), (long, long)):
        assert Lists(policy(accounts=[listed_as]), NOBODY).account([asked], []) is not None
    assert Lists(policy(accounts=[long]), NOBODY).account([make_id("001", 8)], []) is None


def test_a_file_of_lines_with_reasons_comments_and_a_header(tmp_path: Path) -> None:
    rows = listed(
        tmp_path,
        b'\xef\xbb\xbfdomain,reason\r\n# competitors\r\nrival.example,"a competitor, since 2019"\r\n\r\n'
        b"Ada@Larkfield.example;asked us\r\n0015g00000AbCdE\r\norg-7\tpartner\r\n*.us.example\r\n",
    )
    assert rows.to_dict("records") == [
        {"kind": "domain", "entry": "rival.example", "reason": "a competitor, since 2019", "line": 3},
        {"kind": "email", "entry": "Ada@Larkfield.example", "reason": "asked us", "line": 5},
        {"kind": "id", "entry": "0015g00000AbCdE", "reason": "", "line": 6},
        {"kind": "id", "entry": "org-7", "reason": "partner", "line": 7},
        {"kind": "domain", "entry": "*.us.example", "reason": "", "line": 8},
    ]
    lists = Lists(policy(), rows)
    assert str(lists.account([], ["rival.example"])) == "line 3 of never_contact.file (a competitor, since 2019)"
    assert (
        str(lists.account(["org-7"], []))
        == str(lists.person(None, "org-7"))
        == "line 7 of never_contact.file (partner)"
    )
    assert str(lists.person("ada@larkfield.example")) == "line 5 of never_contact.file (asked us)"
    assert lists.person("tester@us.example") and lists.person("tester@eu.us.example")


def test_nobody_is_contacted_on_half_a_list(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"never_contact\.file: .*never\.csv: line 2 has no entry before the comma"):
        listed(tmp_path, "rival.example\n, a competitor\n")
    with pytest.raises(PolicyError, match=r"never\.csv cannot be read \(UnicodeDecodeError\)"):
        listed(tmp_path, b"r\xefval.example\n")
    with pytest.raises(PolicyError, match=r"gone\.csv cannot be read \(FileNotFoundError\)"):
        read_listed(tmp_path, policy(file="gone.csv"))
    assert read_listed(tmp_path, policy()).empty


def test_the_file_is_found_beside_the_policy_and_missed_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    file = tmp_path / "rules" / "policy.yaml"
    file.write_text("never_contact: {file: never.csv}\n")
    with pytest.raises(PolicyError, match=r"never_contact\.file: .*rules.never\.csv cannot be read"):
        usable_policy(file)
    (tmp_path / "rules" / "never.csv").write_text("rival.example\n")
    workspace = open_workspace(tmp_path / "home", file)
    assert read_listed(workspace.beside, workspace.policy)["entry"].tolist() == ["rival.example"]


@pytest.mark.parametrize(
    ("key", "entry", "said"),
    [
        ("domains", "rival", "give a domain, like rival.example"),
        ("domains", ", a competitor", "give a domain, like rival.example"),
        ("accounts", " ,partner", "give an id or an address"),
        ("people", "", "give an id or an address"),
        ("channels", [], "at least 1 item"),
        ("channels", ["fax"], "call"),
    ],
)
def test_entries_that_name_nobody_are_refused(key: str, entry: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        policy(**{key: entry if isinstance(entry, list) else [entry]})
