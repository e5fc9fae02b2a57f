"""Small exports as real companies have them, each played in a home of its own; prints case, expected and seen.

    python -m benchmarks.cases FOLDER [--only 01]

FOLDER holds a folder for each case: `answers/` (the export), `accounts.csv` or `.parquet`, `policy.yaml`. What should
come of a case is in `EXPECTED`, by the beginning of its name; a case without an entry is played and shown only. Each
case is a dry run at `AS_OF` and then the decisions of that run, as the command line gives them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AS_OF = "2025-06-30T12:00:00Z"

CALLED, CONVERTING = "sales_now", "hold_converting"


@dataclass(frozen=True)
class Seen:
    """What came of a case: exit code, the run's summary (empty if it ended early), decisions and signals by account.

    `said`: all that the run printed, on the screen and as JSON.
    """

    code: int
    summary: Mapping[str, Any] = field(default_factory=dict)
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    signals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: str = ""

    def action(self, account: str) -> str | None:
        """The action decided for an account; None if there is no decision about it."""
        return self.decisions[account]["action"] if account in self.decisions else None

    def text(self) -> str:
        """One line for a person."""
        rows = self.summary.get("rows", {})
        decided = ", ".join(f"{account}: {row['action']}" for account, row in self.decisions.items())
        figures = f"in {rows.get('in')} kept {rows.get('kept')} {rows.get('quarantined') or ''}" if rows else ""
        last = self.said.strip().splitlines()[-1][:160] if self.code and self.said.strip() else ""
        return "; ".join(part for part in (f"exit {self.code}", figures, decided, last) if part)


@dataclass(frozen=True)
class Expected:
    """What should come of a case, in words and as a test of what was seen. `policy`: keys added to the case's own."""

    words: str
    holds: Callable[[Seen], bool]
    policy: str = ""


def action(account: str, *actions: str) -> Callable[[Seen], bool]:
    """The run ends well and decides one of the actions for the account."""
    return lambda seen: seen.code == 0 and seen.action(account) in actions


def says(*patterns: str, code: int | None = None) -> Callable[[Seen], bool]:
    """Screen or JSON match every pattern, and the exit code is as given (None: any)."""
    return lambda seen: (code is None or seen.code == code) and all(re.search(p, seen.said, re.I) for p in patterns)


def both(*tests: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
    """All of the tests hold."""
    return lambda seen: all(test(seen) for test in tests)


def either(*tests: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
    """One of the tests holds."""
    return lambda seen: any(test(seen) for test in tests)


def not_called(account: str) -> Callable[[Seen], bool]:
    """The run ends well and gives no rep the account."""
    return lambda seen: seen.code == 0 and seen.action(account) != CALLED


def named(reason: str) -> Callable[[Seen], bool]:
    """The run ends well, the account is called as in the healthy case, and the output says what was not read."""
    return both(action("acme-1", CALLED), says(reason))


def _figure(account: str, signal: str, low: float, high: float) -> Callable[[Seen], bool]:
    def holds(seen: Seen) -> bool:
        value = seen.signals.get(account, {}).get(signal)
        return seen.code == 0 and value is not None and low <= value <= high

    return holds


def _figures(**wanted: Any) -> Callable[[Seen], bool]:
    return lambda seen: seen.code == 0 and all(seen.summary["rows"].get(name) == n for name, n in wanted.items())


def _nobody(account: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.code == 0 and account not in seen.decisions


def _one_account(*accounts: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.code == 0 and sum(account in seen.decisions for account in accounts) == 1


_VENDORS = ("csv", "kiss", "mixpanel", "posthog", "rudder", "segment")

EXPECTED: Mapping[str, Expected] = {
    "00": Expected("called", action("acme-1", CALLED)),
    "01": Expected("held: its user is buying, though the server's event has no group", action("acme-1", CONVERTING)),
    "02": Expected("user 42 of company 7 is not company 42", not_called("42")),
    "03": Expected("the placeholder is nobody's account", _nobody("undefined")),
    "05": Expected("one person is one user: not engaged", not_called("acme.example")),
    "07": Expected("anonymous visitors are counted apart; called", both(action("acme-1", CALLED), says("anonymous"))),
    "08": Expected("held: what the device did signed out is the user's", action("acme-1", CONVERTING)),
    "09": Expected(
        "own staff do not count: not called", not_called("acme-1"), "never_count: {domains: [vendor.example]}\n"
    ),
    "11-account-renamed-late": Expected("the record is with the living id", _figure("zenith", "employees", 200, 200)),
    "11": Expected("the record is with the living id", _figure("acme-new", "employees", 200, 200)),
    "13": Expected(
        "groups of a type that the policy does not name are told with counts",
        says(r"group.{0,60}(organi[sz]ation|company|org).{0,20}\d{2}"),
    ),
    "14-accounts-bom": Expected("read", action("1001", CALLED)),
    "14-accounts-zero": Expected(
        "read, or one line that says what to change", either(action("1001", CALLED), says("account_id"))
    ),
    "14-accounts-parquet": Expected("ids of whole numbers are read", both(action("1001", CALLED), _nobody("1001.0"))),
    "14-accounts-cp1252": Expected(
        "read, or one line that says what to change", either(action("1001", CALLED), says("UTF-8|encod"))
    ),
    "14": Expected(
        "read, or one line that says what to change", either(action("1001", CALLED), says("row 1|column|separat"))
    ),
    "15": Expected("unlimited is no limit; the good limits are kept", action("acme-1", CALLED)),
    "16-monthly-counter-after": Expected("the pace of the new period", action("acme-1", CALLED)),
    "16": Expected(
        "full in 3 to 4 days, by the pace within the period", _figure("acme-1", "limit_days_left", 2.5, 4.5)
    ),
    "17": Expected("the newer reading counts", action("acme-1", CALLED)),
    "18": Expected(
        "read where plain, else counted as unreadable and told",
        either(says("unread|not.{0,20}read|numbers"), _figure("acme-1", "limit_share", 0.5, 2)),
    ),
    "19": Expected("autocapture is named and stops nothing", named(r"\[Amplitude\].{0,40}\d{2}")),
    "20": Expected(
        "session starts are named and stop nothing",
        both(lambda seen: seen.code == 0, says(r"session_start\b.{0,40}\d{2}")),
    ),
    "21": Expected("stops: 39 % of the hours are lost", says("hours", code=1)),
    "22": Expected("joined by domain, and said how many", both(action("acme.example", CALLED), says(r'"domain": 2'))),
    "23a": Expected("the file beside the zip is read, or named", either(action("acme-1", CALLED), says(r"\.json"))),
    "23c": Expected("read, or named", either(action("acme-1", CALLED), says(r"\.ZIP"))),
    "23d": Expected("read, or named", either(action("acme-1", CALLED), says("not.{0,9}read|unknown_file"))),
    "23e": Expected("a Mac's forks are no losses", action("acme-1", CALLED)),
    "23f": Expected("read, or refused with the reason", either(action("acme-1", CALLED), says(r"\.json|zip", code=1))),
    "23g": Expected("read, or refused with the reason", either(action("acme-1", CALLED), says("%23", code=1))),
    "23h": Expected(
        "read, or refused saying what was lost", either(action("acme-1", CALLED), says("zip in|nested|inner"))
    ),
    "25": Expected(
        "read, or refused with the reason and what was lost",
        either(action("acme-1", CALLED), says("lines|JSON|UTF-16|utf16", code=1)),
    ),
    "26": Expected("the checkout holds whatever one property looks like", action("acme-1", CONVERTING)),
    "27": Expected("times are read as they say their zone", action("acme-1", CALLED)),
    "28": Expected("what was sent again counts once", both(action("acme-1", CALLED), _figures(kept=127))),
    "30": Expected("strangers behind a relay are lone people", both(not_called("github.com"), _nobody("appleid.com"))),
    "31": Expected("staging's intent does not count", not_called("acme-1"), "events: {projects: ['300300']}\n"),
    "34": Expected(
        "a user of two companies is of one; the other's checkout holds the other",
        both(action("acme-1", CALLED), action("globex-1", CONVERTING)),
    ),
    "35": Expected(
        "all events are one account's, whatever the order of the list",
        both(action("acme-1", CALLED), _figure("acme-1", "users", 3, 3), _figure("zeta-1", "users", 0, 0)),
    ),
    "36": Expected("once", both(action("acme-1", CALLED), _figures(kept=127))),
    "37": Expected("a clock ahead is refused, the rest is kept", _figures(kept=127)),
    **{
        f"38-vendor-{vendor}": Expected(f"refused: it looks like {vendor}", says(vendor[:4], code=1))
        for vendor in _VENDORS
    },
    "39": Expected("names that look like ours are named", says("looks like|did you mean|near")),
    "41": Expected("activated by what was done before the group was set", action("acme-1", CALLED)),
    "42": Expected(
        "listed as ambiguous, or one account",
        either(_one_account("acme.example", "acme-group.example"), says("ambiguous|several domains")),
    ),
}


def play(folder: Path, policy: str) -> Seen:
    """Plays one case in a new home, with these lines added to its policy."""
    import pyarrow.parquet as pq
    from onetouch.cli import app
    from typer.testing import CliRunner

    with tempfile.TemporaryDirectory(prefix="onetouch-case-") as place:
        home, own = Path(place) / "home", Path(place) / "policy.yaml"
        own.write_text((folder / "policy.yaml").read_text(encoding="utf-8") + policy, encoding="utf-8")
        accounts = next(path for path in folder.iterdir() if path.stem == "accounts")
        runner = CliRunner()
        ran = runner.invoke(
            app,
            ["--home", str(home), "run", "--source", "amplitude", "--exports", str(folder / "answers"), "--accounts",
             str(accounts), "--policy", str(own), "--as-of", AS_OF, "--dry-run", "--json"],
        )  # fmt: skip
        decided = runner.invoke(app, ["--home", str(home), "decisions", "--json"])
        signals = [row for path in sorted(home.glob("**/signals/*.parquet")) for row in pq.read_table(path).to_pylist()]
        return Seen(
            ran.exit_code,
            next(_objects(ran.stdout), {}),
            {row["account_id"]: row for row in _objects(decided.stdout)},
            {row["account_id"]: row for row in signals},
            ran.output,
        )


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def main() -> int:
    """Plays the cases; the exit code is 1 if one of them came out otherwise than expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="the folder of the cases")
    parser.add_argument("--only", default="", help="play the cases whose name begins so")
    args = parser.parse_args()
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    folders = sorted(path for path in args.folder.iterdir() if path.is_dir() and path.name.startswith(args.only))
    wanted = [next((e for name, e in EXPECTED.items() if path.name.startswith(name)), None) for path in folders]
    wrong = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=10) as pool:
        given = [(path, expected.policy if expected else "") for path, expected in zip(folders, wanted, strict=True)]
        results = pool.starmap_async(play, given, chunksize=1).get()
        for path, expected, seen in zip(folders, wanted, results, strict=True):
            verdict = "-" if expected is None else "as expected" if expected.holds(seen) else "WRONG"
            wrong += verdict == "WRONG"
            print(f"{path.name}\n  expected: {expected.words if expected else '(nothing said)'}")
            print(f"  seen: {seen.text()}\n  {verdict}", flush=True)
    print(f"{len(folders)} cases, {wrong} otherwise than expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
