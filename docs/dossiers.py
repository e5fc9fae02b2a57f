"""Writes docs/examples/dossiers.md: ten simulated accounts as their reps see them. Run: python docs/dossiers.py

With --simulate (two minutes) the ten are first drawn anew: a simulated company lives for a month, its records are
loaded into the Salesforce sandbox, and the library's own stages decide several times, in a home that is thrown away and
at moments so long ago that nothing is sent. What they decided of the ten is kept in docs/examples/dossiers.json.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from onetouch.handoff import alert, dossier, first_message, task_content, team_of
from onetouch.handoff.facts import known_facts
from onetouch.handoff.situations import why_now
from onetouch.policy import Policy, read_policy
from onetouch.simulation import PLANS

EXAMPLES = Path(__file__).parent / "examples"
PAGE, ACCOUNTS = EXAMPLES / "dossiers.md", EXAMPLES / "dossiers.json"

START = datetime(2026, 3, 2, tzinfo=UTC)
LAST = START + timedelta(days=30, hours=14)
DAYS_BEFORE = (8, 7, 3, 1, 0)
SEED, COMPANY, SHOWN = 7, 500, 10

POLICY = read_policy().changed(product__plans=[dict(plan) for plan in PLANS])

Example = dict[str, Any]


def render(examples: list[Example], policy: Policy) -> str:
    """The page: of each account the task's subject, the alert, the first message and the dossier."""
    lines = [
        "# Ten dossiers and first messages",
        "",
        "**Simulated.** Accounts, people and figures are made up by `onetouch.simulation`; the decisions are the",
        "library's, under the default policy with the plans that the simulated company sells. Made by",
        "`python docs/dossiers.py`; a test fails when it is out of date. People have no names in the simulation: where",
        "one is known by name, the message greets that person. Which texts are chosen, and every word of them, is",
        "[the policy's](../policy.md#situations).",
    ]
    for number, example in enumerate(examples, 1):
        decision, signals, zone = example["decision"], example["signals"], example["rep_timezone"]
        situation = why_now(known_facts(decision, signals), policy).situation
        lines += [
            "",
            f"## {number}. {situation.capitalize()}",
            "",
            f"Task: **{task_content(decision, signals, policy, zone).subject}**  ",
            f"Slack: {alert(decision, signals, policy, zone).text}",
            "",
            "First message:",
            "",
            *(f"> {line}".rstrip() for line in first_message(decision, signals, policy).split("\n")),
            "",
            "```text",
            dossier(decision, signals, policy, zone),
            "```",
        ]
    return "\n".join(lines) + "\n"


def kept() -> list[Example]:
    """The ten accounts as they were decided."""

    def times(pairs: dict[str, Any]) -> dict[str, Any]:
        moments = {k: datetime.fromisoformat(v) for k, v in pairs.items() if v and (k.endswith("_at") or k == "as_of")}
        return pairs | moments

    return json.loads(ACCOUNTS.read_text(encoding="utf-8"), object_hook=times)


# ── drawing them anew ────────────────────────────────────────────────────────────────────────────


def drawn(home: Path, policy: Policy) -> list[Example]:
    """Ten accounts handed to sales, each situation once before any comes twice."""
    found: list[Example] = []
    for run_id, workspace in _decided(home):
        reps = workspace.lake.read("crm", run_id, "reps.parquet")
        zones = dict(zip(reps["owner_id"], reps["timezone"], strict=True))
        decisions = workspace.lake.read("decisions", f"{run_id}.parquet")
        signals = workspace.lake.read("signals", f"{run_id}.parquet").set_index("account_id", drop=False)
        sent = decisions[decisions["action"] == "sales_now"].sort_values(
            ["score", "account_id"], ascending=[False, True]
        )
        people = team_of(workspace.lake, run_id, sent["account_id"].tolist())
        found += [
            {
                "rep_timezone": zones.get(decision["owner_id"]),
                "decision": decision,
                "signals": signals.loc[decision["account_id"]].to_dict()
                | {"people": people.get(decision["account_id"])},
            }
            for decision in sent.to_dict("records")
        ]
    found.reverse()  # the latest run's first
    return _different(found, policy)


def _different(found: list[Example], policy: Policy) -> list[Example]:
    places = [situation.name for situation in policy.situations]
    calls = Counter(example["decision"]["call"] for example in found)
    times: Counter[str] = Counter()
    ranked = []
    for example in sorted(found, key=lambda example: calls[example["decision"]["call"]]):  # the rare reasons first
        name = why_now(known_facts(example["decision"], example["signals"]), policy).situation
        ranked.append((times[name], places.index(name), len(ranked), example))
        times[name] += 1
    chosen, accounts = [], set()
    for _, place, _, example in sorted(ranked, key=lambda row: row[:3]):
        if example["decision"]["account_id"] not in accounts and len(chosen) < SHOWN:
            chosen.append((place, example))
            accounts.add(example["decision"]["account_id"])
    return [example for _, example in sorted(chosen, key=lambda row: row[0])]


def _decided(home: Path) -> Iterator[tuple[str, Any]]:
    """Each run's id, with its workspace."""
    from onetouch import simulation, stages
    from onetouch.connections import from_environment
    from onetouch.workspace import open_workspace

    simulation.simulate(home / "company", seed=SEED, start=START, until=LAST, accounts=COMPANY)
    with _sandbox(home) as url:
        requests.post(f"{url}/_sandbox/clock", json={"now": LAST.isoformat()}, timeout=10).raise_for_status()
        records = json.loads((home / "company" / "crm.json").read_text(encoding="utf-8"))
        requests.post(f"{url}/_sandbox/load", json=records, timeout=120).raise_for_status()
        extra = {"instance_url": url, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        connection = {"conn_type": "salesforce", "extra": extra | {"version": "62.0"}}
        environ = {"AIRFLOW_CONN_SALESFORCE_DEFAULT": json.dumps(connection)}
        (home / "policy.yaml").write_text(json.dumps({"product": {"plans": PLANS}}), encoding="utf-8")
        workspace = open_workspace(
            home / "home",
            home / "policy.yaml",
            exports=home / "company" / "exports",
            connection=lambda name: from_environment(name, environ),
            environ=environ,
        )
        for days in DAYS_BEFORE:
            at = LAST - timedelta(days=days)
            yield stages.run_all(workspace, at, LAST + timedelta(days=1)), workspace


@contextmanager
def _sandbox(home: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "onetouch.sandbox", "--home", str(home / "sandbox"), "--port", str(port)]
    with (home / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            try:
                requests.get(f"{url}/_sandbox/state", timeout=5).raise_for_status()
                break
            except requests.ConnectionError:
                if time.monotonic() > until:
                    raise RuntimeError((home / "sandbox.log").read_text()) from None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _plain(value: Any) -> Any:
    """JSON values: no nulls, arrays as lists, moments in ISO."""
    if isinstance(value, dict):
        told = {key: _plain(inner) for key, inner in value.items()}
        return {key: inner for key, inner in told.items() if inner is not None}
    if hasattr(value, "tolist") and not hasattr(value, "isoformat"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or value != value or str(value) in ("NaT", "<NA>"):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


if __name__ == "__main__":
    EXAMPLES.mkdir(exist_ok=True)
    if sys.argv[1:] == ["--simulate"]:
        with tempfile.TemporaryDirectory() as folder:
            ten = [_plain(example) for example in drawn(Path(folder), POLICY)]
        ACCOUNTS.write_text(json.dumps(ten, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(render(kept(), POLICY), encoding="utf-8")
