"""The README's commands in the order in which somebody types them who tries Onetouch on a folder of exports."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from onetouch.cli import app
from typer.testing import CliRunner

from tests.sources.answers import answer, event, member, packed

END = datetime(2025, 6, 30, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POLICY = "name: mine\nassignment:\n  reps:\n    - {email: ana@vendor.example, timezone: Europe/Berlin}\n"


class Newcomer:
    """A person with a folder of answers, a file of accounts and a terminal."""

    def __init__(self, place: Path) -> None:
        self.place, self.number = place, 0
        (place / "answers").mkdir()
        (place / "accounts.csv").write_text("account_id,name,domain,employees\nacme,Acme,acme.example,120\n")
        self.policy = place / "policy.yaml"
        self.policy.write_text(POLICY)

    def receives(self, name: str, first: datetime, days: int) -> int:
        """An answer with a file a day, an event of each of three users in it; returns the number of files."""
        members = []
        for day in range(days):
            at = first + day * DAY
            moments = dict.fromkeys(
                ("event_time", "client_event_time", "server_upload_time", "server_received_time"),
                f"{at + HOUR / 2:%Y-%m-%d %H:%M:%S.%f}",
            )
            rows = []
            for user in range(3):
                self.number += 1
                row = event(self.number, event_type="report_created", user_id=f"u{user}", **moments)
                rows.append(row | {"groups": {"company": ["acme"]}})
            members.append((member(at), packed(rows)))
        answer(self.place / "answers" / name, members)
        return len(members)

    def types(self, *arguments: str, as_json: bool = True) -> tuple[int, Any]:
        done = CliRunner().invoke(
            app,
            ["--home", str(self.place / "home"), "--policy", str(self.policy), *arguments, *["--json"] * as_json],
        )
        return done.exit_code, json.loads(done.stdout) if as_json else done.stdout

    def runs(self, as_of: datetime | None = None, *, dry: bool = True, as_json: bool = True) -> tuple[int, Any]:
        folder, accounts = self.place / "answers", self.place / "accounts.csv"
        when = [] if as_of is None else ["--as-of", as_of.isoformat()]
        dry_run = ["--dry-run"] if dry else []
        return self.types(
            "run", "--exports", str(folder), "--accounts", str(accounts), *when, *dry_run, as_json=as_json
        )

    def decided(self) -> list[dict[str, Any]]:
        done = CliRunner().invoke(app, ["--home", str(self.place / "home"), "decisions", "--json"])
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return [{name: row[name] for name in ("account_id", "action", "score", "reasons")} for row in rows]


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    monkeypatch.setenv("COLUMNS", "120")
    return Newcomer(tmp_path)


@pytest.mark.timeout(900)
def test_no_command_hides_data_from_the_next(newcomer: Newcomer) -> None:
    week = newcomer.receives("week.zip", END - 7 * DAY - HOUR, 7)
    code, said = newcomer.runs()  # for now, as in the README: the export is stale
    assert (code, said["rows"]["in"], said["decisions"]) == (1, 3 * week, None)

    code, said = newcomer.runs(END)
    assert (code, said["rows"]["in"], said["already_read"]) == (0, 0, week)
    assert newcomer.decided()[0]["score"] > 0

    added = newcomer.receives("newer.zip", END - HOUR, 7) + newcomer.receives("older.zip", END - 47 * DAY, 40)
    code, said = newcomer.runs(END)
    assert (code, said["rows"]["in"], said["already_read"], said["waiting"]) == (0, 0, week, 41)
    code, shown = newcomer.runs(END + 7 * DAY, as_json=False)
    assert code == 0 and f"{week} files, by earlier runs" in shown and f"{3 * added} kept" in shown

    code, said = newcomer.runs(END + 7 * DAY, dry=False)  # in earnest at last; held, because its moment is past
    assert (code, said["rows"]["kept"], said["rows"]["duplicates"]) == (0, 3 * (week + added), 0)


@pytest.mark.timeout(900)
def test_a_late_file_changes_no_decision_of_then(newcomer: Newcomer) -> None:
    newcomer.receives("a.zip", END - 7 * DAY - HOUR, 7)
    assert newcomer.runs(END, dry=False)[0] == 0
    then = newcomer.decided()
    newcomer.receives("late.zip", END - 3 * HOUR, 1)
    newcomer.policy.write_text(f"{POLICY}quality: {{trailing_days: 13}}\n")
    code, said = newcomer.runs(END, dry=False)
    assert (code, said["late"]) == (0, 3)
    assert newcomer.decided() == then
    assert newcomer.runs(END + DAY, dry=False)[0] == 0
    assert newcomer.decided() != then, "the next run does count it, when its day is over"
