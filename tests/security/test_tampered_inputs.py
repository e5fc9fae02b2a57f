"""Whatever an account is called, it is stored and shown harmlessly: CRM, Slack, terminal, pages, replay."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from onetouch import audit, crm_sync, delivery, metrics, quality, report, routing, scoring, signals
from onetouch.chat.slack import Slack
from onetouch.connections import Connection
from onetouch.crm.salesforce import Salesforce
from onetouch.experiments import scenario_world
from onetouch.experiments.scenario_file import Side
from onetouch.handoff import TaskContent
from onetouch.sandbox.fields import make_id
from onetouch.sandbox.in_process import URL, Adapter, Org
from onetouch.sandbox.pages import Pages
from onetouch.workspace import Workspace, open_workspace
from starlette.requests import Request
from tenacity import wait_none
from typer.testing import CliRunner

from tests.audit.company import AS_OF, KEEN
from tests.security.hostile import ATTACKS, names

OWNER = make_id("005", 101)
CONNECTION = Connection(
    "salesforce_default",
    extra={"instance_url": URL, "consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"},
)
NAMES = names()

NAMELESS = [
    n
    for n, name in enumerate(NAMES)
    if not re.search(r"[^\s\x00-\x20]", "".join(c for c in name[:500] if c.isprintable()))
]
"""Those whose name shows nothing: of them a rep could not say whom to call."""

HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that act on what is around them, or are none."""


def harmful(text: str, allowed: str = "") -> set[str]:
    return {f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in HARMFUL and c not in allowed}


class Hostile(Salesforce):
    """The CRM as it would answer if people could write these names into it."""

    def read_accounts(self, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        for row in super().read_accounts(*args, **kwargs):
            number = int(row["account_id"].removeprefix("t"))
            yield row | {"name": NAMES[number]}


@dataclass
class Delivered:
    """Everything at its far end, after a run over all the names."""

    workspace: Workspace
    org: Org
    run_id: str
    summary: dict[str, Any]

    def tasks(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.org.store.db.execute("SELECT * FROM Task")]

    def accounts(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.org.store.db.execute("SELECT * FROM Account")]

    def posts(self) -> list[dict[str, Any]]:
        return self.org.tooling.state()["posts"]

    def page(self, name: str, **query: str) -> str:
        scope = {
            "type": "http", "method": "GET", "path": f"/{name}", "headers": [],
            "query_string": "&".join(f"{k}={v}" for k, v in query.items()).encode(),
        }  # fmt: skip
        pages = Pages(self.org.store, self.org.slack)
        shown = asyncio.run({"tasks": pages.tasks, "slack": pages.channels}[name](Request(scope)))
        return bytes(shown.body).decode()

    def command(self, *words: str, width: int = 200) -> str:
        from onetouch.cli import app

        done = CliRunner().invoke(app, ["--home", str(self.workspace.home), *words], env={"COLUMNS": str(width)})
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """A run over all the names, through the stand-in of CRM and Slack."""
    home: Path = tmp_path_factory.mktemp("hostile") / "home"
    policy = home.parent / "policy.yaml"
    policy.write_text(
        "assignment: {tasks_per_day: 1000, tasks_per_rep_per_day: 1000}\n"
        "delivery: {approval_above: null}\n"
        "slack: {digest_above: 1000, quiet_from: null}\n"
        "crm: {account_fields: {plan_limits: null}}\n"
    )
    workspace = open_workspace(home, policy, environ={})
    lake, ledger = workspace.lake, workspace.ledger
    org = Org()
    org.tooling.clock(AS_OF)
    org.tooling.limits(slack_per_second=1000, slack_burst=1000)
    people = [{"Id": OWNER, "Name": "Rita", "Email": "rita@rep.example", "TimeZoneSidKey": "Europe/Berlin"}]
    records = [
        {
            "Id": make_id("001", n), "Name": f"Company {n}", "Website": f"company{n}.example", "OwnerId": OWNER,
            "NumberOfEmployees": 200, "Onetouch_Account_Id__c": f"t{n}", "CreatedDate": "2024-05-01T00:00:00Z",
        }
        for n in range(len(NAMES))
    ]  # fmt: skip
    org.tooling.load({"User": people, "Account": records})
    side = Side.model_validate({"account": {"domain": "acme.example", "employees": 200}, "events": KEEN})
    rows = [
        row | {"account_id": f"t{n}", "event_id": f"{n}-{row['event_id']}"}
        for row in scenario_world.events("t", "t", side, workspace.policy, AS_OF)
        for n in range(len(NAMES))
    ]
    events = scenario_world.event_frame(rows)
    for day, happened in events.groupby(events["occurred_at"].dt.strftime("%Y-%m-%d")):
        lake.write(happened, "events", f"event_date={day}", "all.parquet")
    run = ledger.begin_run(AS_OF, workspace.policy, False)
    session = org.session()
    crm = Hostile(CONNECTION, wait=wait_none(), sleep=lambda _: None, session=session)
    session.mount("https://", Adapter(org))  # after the client has put its own there
    crm_sync.extract_crm(lake, ledger, workspace.policy, run, crm)
    signals.build(lake, ledger, workspace.policy, run)
    quality.check_signals(lake, ledger, workspace.policy, run)
    scoring.score(lake, ledger, workspace.policy, run)
    routing.route(lake, ledger, workspace.policy, run)
    summary = delivery.deliver_tasks(
        lake, ledger, workspace.policy, run, crm, recheck=lambda accounts: {}, held=None, approved=True
    )
    slack = Slack(Connection("slack_default", password="xoxb-sandbox"), sleep=lambda _: None)
    org.answer_slack(slack.client)
    delivery.alert_reps(lake, ledger, workspace.policy, run, slack, now=AS_OF, held=None)
    week = metrics.keep(metrics.weekly(lake, ledger, workspace.policy, AS_OF + timedelta(days=7)), lake)
    built = report.build(metrics.read(lake, week), workspace.policy)
    report.post_report(ledger, slack, workspace.policy, built, f"weekly_report:{week}")
    yield Delivered(workspace, org, run.run_id, summary)
    ledger.close()
    org.close()


def test_there_are_two_hundred(delivered: Delivered) -> None:
    assert len(NAMES) == 200 and set(ATTACKS) <= set(NAMES)
    decisions = delivered.workspace.lake.read("decisions", f"{delivered.run_id}.parquet")
    assert dict(decisions["action"].value_counts()) == {"sales_now": 200 - len(NAMELESS), "hold_context": len(NAMELESS)}
    assert delivered.summary["delivered"] == 200 - len(NAMELESS) > 180


def test_the_crm_holds_one_plain_line_as_subject(delivered: Delivered) -> None:
    tasks = delivered.tasks()
    assert len(tasks) == 200 - len(NAMELESS)
    for task in tasks:
        assert harmful(task["Subject"]) == set() and len(task["Subject"]) <= 255
        assert task["Subject"].startswith("[High] "), "a name must not look like a task we closed"
        assert harmful(task["Description"], allowed="\n") == set() and len(task["Description"]) <= 32_000
        assert task["Description"].count("FIRST MESSAGE (yours to change)\n") == 1


def test_no_field_of_ours_is_computed_by_a_spreadsheet(delivered: Delivered) -> None:
    ours = [row for row in delivered.accounts() if row["Onetouch_Score__c"] is not None]
    assert len(ours) == 200 - len(NAMELESS)
    for row in [*ours, *delivered.tasks()]:
        for name, value in row.items():
            if isinstance(value, str) and (name.startswith("Onetouch_") or name in ("Subject", "Description")):
                assert not value.startswith(("=", "+", "-", "@", "\t", "\r")), name
                assert harmful(value, allowed="\n") == set(), name
    dossiers = [row["Onetouch_Dossier__c"] for row in ours]
    assert any(dossier.startswith("'=cmd|") for dossier in dossiers), "the name is still to be read"


def test_slack_shows_names_and_acts_on_none(delivered: Delivered) -> None:
    posts = [post for post in delivered.posts() if post["channel"] == "C0ALERTS"]
    assert len(posts) == 200 - len(NAMELESS)
    for post in posts:
        # What is not an entity acts: `<` stands in the text only for the mention of the owner.
        assert re.findall(r"<[^>]*>", post["text"]) in ([], [owner_of(post)]), post["text"][:200]
        assert harmful(json.dumps(post, ensure_ascii=False)) == set()
        kinds = {element["type"] for element in elements(post["blocks"])}
        assert kinds <= {"rich_text", "rich_text_section", "text", "user", "emoji", "context", "mrkdwn", "plain_text"}
        for element in elements(post["blocks"]):
            if element["type"] == "mrkdwn":
                assert not re.search(r"<[!@#h]|https?:|mailto:", element["text"])
    said = json.dumps(posts)
    assert "<!channel> come here" in said and "&lt;!channel&gt; come here" in said


def owner_of(post: dict[str, Any]) -> str | None:
    users = [element["user_id"] for element in elements(post["blocks"]) if element["type"] == "user"]
    return f"<@{users[0]}>" if users else None


def elements(value: Any) -> Iterator[dict[str, Any]]:
    """Every element of blocks that has a type."""
    if isinstance(value, list):
        for item in value:
            yield from elements(item)
    elif isinstance(value, dict):
        if "type" in value:
            yield value
        for item in value.values():
            yield from elements(item)


class Tags(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.text = "".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def check_page(page: str) -> Tags:
    shown = Tags(page)
    for tag, attributes in shown.tags:
        assert tag not in ("script", "svg", "iframe", "object", "embed", "base"), tag
        assert not any(name.startswith("on") for name in attributes), attributes
        for name in ("href", "src", "action"):
            address = attributes.get(name) or ""
            assert "evil" not in address and not address.lower().startswith(("javascript:", "//", "data:text"))
    return shown


def test_pages_escape_every_name(delivered: Delivered) -> None:
    tasks = check_page(delivered.page("tasks", rep=OWNER))
    assert "<script>alert(1)</script>" in tasks.text and "{{7*7}}" in tasks.text
    slack = check_page(delivered.page("slack", channel="C0ALERTS"))
    assert "<!channel> come here" in slack.text
    loud = [attributes for _, attributes in slack.tags if "loud" in (attributes.get("class") or "")]
    assert loud == [], "nobody was called to the channel"


def test_data_docs_hold_no_name(delivered: Delivered) -> None:
    pages = sorted((delivered.workspace.home / "lake/quality").rglob("*.html"))
    assert pages
    for path in pages:
        page = path.read_text()
        assert "script-src" not in page and "default-src 'none'" in page, "no script of anybody runs in it"
        assert "Acme" not in page and "alert(1)" not in page


def test_a_terminal_is_shown_names_and_obeys_none(delivered: Delivered) -> None:
    accounts = [f"t{n}" for n, name in enumerate(NAMES) if harmful(name[:500]) or "[" in name[:20]][::7]
    assert len(accounts) > 5
    screens = [delivered.command("decisions"), delivered.command("assignments", width=90)]
    screens += [delivered.command("explain", account, width=100) for account in accounts]
    for screen in screens:
        assert harmful(screen, allowed="\n") == set()
    assert any("[red]Acme[/red]" in delivered.command("explain", f"t{NAMES.index('[red]Acme[/red]')}") for _ in "1")


def test_as_json_every_character_is_escaped(delivered: Delivered) -> None:
    hostile = NAMES.index("Acme \u202egpj.exe")
    said = delivered.command("explain", f"t{hostile}", "--json")
    assert said.isascii() and json.loads(said)["signals"]["name"] == NAMES[hostile]


def test_an_account_id_acts_on_no_terminal_either() -> None:
    from io import StringIO

    from onetouch.cli.terminal import console
    from rich.text import Text

    for name in ATTACKS:
        out = StringIO()
        console(file=out, force_terminal=True, width=80, color_system=None).print(Text(name[:2_000]))
        assert harmful(out.getvalue(), allowed="\n") == set()


def test_what_was_decided_can_be_made_again(delivered: Delivered) -> None:
    assert audit.replay(delivered.workspace.lake, delivered.workspace.ledger, delivered.run_id).empty


def test_nothing_of_a_name_is_longer_than_anybody_reads(delivered: Delivered) -> None:
    stored = delivered.workspace.lake.read("signals", f"{delivered.run_id}.parquet")
    assert stored["name"].str.len().max() <= 500
    size = sum(path.stat().st_size for path in delivered.workspace.home.rglob("*") if path.is_file())
    assert size < 20_000_000


def test_stages_say_nothing_of_names(delivered: Delivered) -> None:
    """Summaries go to XCom and the log."""
    said = json.dumps(delivered.summary)
    assert not any(name[:40] in said for name in ATTACKS if len(name.strip()) > 8)


def test_bulk_rows_stay_rows_whatever_they_hold(delivered: Delivered) -> None:
    """The same texts as CSV: a quote, a comma or a line break in a value ends no value, column or row."""
    org = Org(delivered.org.image())
    session = org.session()
    crm = Salesforce(CONNECTION, bulk_above=1, wait=wait_none(), sleep=lambda _: None, session=session)
    session.mount("https://", Adapter(org))
    # What is no character of JSON or XML the CRM refuses by itself.
    unstorable = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\ufdd0]")
    texts = [name[:200] for name in ATTACKS if name[:200].strip() and not unstorable.search(name[:200])]
    rows = {
        f"bulk{n}": TaskContent("S", description=f"{text}|{n}", crm_account_id=make_id("001", n), owner_id=OWNER)
        for n, text in enumerate(texts)
    }
    outcomes = crm.create_tasks(rows)
    assert {outcome.reason for outcome in outcomes.values() if not outcome.ok} == set()
    held = {row["Onetouch_Handoff_Id__c"]: row["Description"] for row in org.store.db.execute("SELECT * FROM Task")}
    assert {key: held[key] for key in rows} == {key: row.description for key, row in rows.items()}
    assert any("ingest" in call["path"] for call in org.tooling.log()["calls"]), "they went as a bulk job"
