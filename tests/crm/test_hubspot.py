"""HubSpot through its official client, against the stand-in: nothing done twice, no row's outcome lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch.connections import Connection, ConnectionConfigError
from onetouch.crm.hubspot import HubSpot
from onetouch.crm.hubspot.fields import PROPERTIES, task_properties, text_of
from onetouch.crm.hubspot.transport import Transport
from onetouch.crm.protocol import (
    RELEASED,
    UNKNOWN,
    WITHDRAWN,
    CrmError,
    FieldsMissing,
    LimitReached,
    Refused,
    SignInRefused,
    Unreachable,
)
from onetouch.delivery import DeliveryFailed, back_off
from onetouch.handoff import AccountContext, TaskContent

from tests.crm.portal import AS_OF, OTTO, OWNERS, RITA, Portal
from tests.delivery.world import BUYING


@pytest.fixture
def portal(world: Any) -> Portal:
    one = Portal(world.org, world)
    one.empty()
    return one


TASK = TaskContent(
    subject="[High] Company 1 — at 92 %",
    description="Hello <b>there</b> & welcome\n\nSecond line",
    priority="medium",
    due_on=date(2025, 11, 18),
    remind_at=datetime(2025, 11, 18, 10, 15, tzinfo=UTC),
    owner_id=RITA,
)


def task(company: str | None = None, **given: Any) -> TaskContent:
    return replace(TASK, crm_account_id=company, **given)


# ── connection, errors ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("password", "extra"),
    [(None, {}), ("t", {"base_url": "http://api.hubapi.example"}), ("", {"base_url": "x"}), ("pat-1\n", {})],
)
def test_connections_that_cannot_work_are_refused_at_once(password: str | None, extra: dict[str, Any]) -> None:
    with pytest.raises(ConnectionConfigError):
        HubSpot(Connection("hubspot_default", password=password, extra=extra))


def test_a_wrong_token_says_what_to_check_and_not_the_token(portal: Portal) -> None:
    with pytest.raises(SignInRefused, match="password") as refused:
        portal.client(token="pat-hunter2").check_fields()
    assert "hunter2" not in str(refused.value)
    assert portal.requests("/crm/") == 1


BUSY = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING", "category": "RATE_LIMITS"}


@pytest.mark.parametrize(
    "fault",
    [{"status": 503, "body": "busy"}, {"drop": "request"}, {"drop": "answer"}, {"status": 200, "body": '{"results": ['},
     {"status": 429, "body": BUSY}, {"status": 423, "body": {}}],
)  # fmt: skip
def test_passing_faults_are_waited_out(portal: Portal, fault: dict[str, Any]) -> None:
    portal.fault(match="/crm/v3/owners", times=3, **fault)
    assert {rep["email"] for rep in portal.client().read_reps()} == {"rita@rep.example", "otto@rep.example"}


def test_waits_as_long_as_the_limit_lasts_or_as_it_is_told(portal: Portal) -> None:
    waited: list[float] = []
    portal.fault(match="/crm/v3/owners", status=429, body=BUSY)
    portal.fault(match="/crm/v3/owners", status=429, body=BUSY, headers={"Retry-After": "7"})
    list(portal.client(sleep=waited.append).read_reps())
    assert waited == [10, 7]


@pytest.mark.parametrize("fault", [{"status": 500, "body": "x"}, {"drop": "answer"}, {"status": 477, "body": {}}])
def test_lasting_faults_end_in_one_clear_error_without_the_address(portal: Portal, fault: dict[str, Any]) -> None:
    portal.fault(match="/crm/v3/owners", times=99, **fault)
    with pytest.raises(Unreachable) as lost:
        list(portal.client().read_reps())
    assert "127.0.0.1" not in str(lost.value)
    assert lost.value.__suppress_context__


def test_a_missing_scope_is_named_and_not_tried_again(portal: Portal) -> None:
    body = {
        "status": "error",
        "category": "MISSING_SCOPES",
        "message": "This app hasn't been granted all required scopes",
        "errors": [{"context": {"requiredGranularScopes": ["crm.objects.owners.read"]}}],
    }
    portal.fault(match="/crm/v3/owners", status=403, body=body, times=9)
    with pytest.raises(Refused, match=r"MISSING_SCOPES.*crm\.objects\.owners\.read"):
        list(portal.client().read_reps())
    assert portal.requests("/crm/v3/owners") == 1


def test_a_redirect_is_not_followed(portal: Portal) -> None:
    portal.fault(match="/crm/v3/owners", status=302, body="", headers={"Location": "http://127.0.0.1:1/"})
    with pytest.raises(CrmError, match="302"):
        list(portal.client().read_reps())


def test_the_days_calls_are_named_and_not_tried_again(portal: Portal) -> None:
    portal.org.post("limits", {"hubspot_daily": 0})
    with pytest.raises(LimitReached, match="next run"):
        list(portal.client().read_reps())
    assert portal.requests("/crm/") == 1


# ── properties ───────────────────────────────────────────────────────────────────────────────────


def test_missing_properties_are_named_and_created_on_demand(portal: Portal) -> None:
    portal.empty(properties=False)
    companies = portal.companies(1)
    client = portal.client()
    with pytest.raises(
        FieldsMissing, match=r"companies\.onetouch_score is missing.*tasks\.onetouch_handoff_id is missing"
    ):
        client.update_accounts({companies[1]: AccountContext(score=1)})
    assert "onetouch_score" not in portal.record("companies", id=companies[1])["properties"]
    assert len(client.create_fields()) == 17
    assert client.create_fields() == []
    client.check_fields()
    assert client.update_accounts({companies[1]: AccountContext(score=57.5)})[companies[1]].ok


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("onetouch_handoff_id", {"hasUniqueValue": False}, "is not unique"),
        ("onetouch_outcome", {"type": "string", "options": []}, "is of type string, not enumeration"),
        ("onetouch_disposition", {"options": [{"label": "Good", "value": "Good"}]}, "lacks Not now, Would have"),
    ],
)
def test_a_property_of_another_making_is_named(portal: Portal, name: str, change: dict[str, Any], problem: str) -> None:
    portal.empty(properties=False)
    tasks = [d | change if d["name"] == name else d for d in PROPERTIES["tasks"]]
    portal.load(properties=PROPERTIES | {"tasks": tasks})
    with pytest.raises(FieldsMissing, match=rf"tasks\.{name} {problem}"):
        portal.client().create_tasks({"h1": task()})
    assert portal.records("tasks") == []


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────


def test_account_fields_are_written_and_nothing_is_erased(portal: Portal) -> None:
    companies = portal.companies(1, 2)
    first = AccountContext(activated=True, tier="high", as_of=AS_OF, limit_share=92.5)
    portal.client().update_accounts({companies[1]: first})
    portal.client().update_accounts({companies[1]: AccountContext(tier=None, activated=False)})
    kept = portal.record("companies", id=companies[1])["properties"]
    assert (kept["onetouch_tier"], kept["onetouch_activated"], kept["onetouch_limit_share"]) == (
        "high",
        "false",
        "92.5",
    )
    assert kept["onetouch_as_of"] == "2025-11-18T10:00:00.000Z"
    assert kept["name"] == "Company 1"


def test_every_row_has_its_own_outcome(portal: Portal) -> None:
    companies = portal.companies(*range(1, 251))
    rows = {i: AccountContext(score=n) for n, i in companies.items()}
    rows[companies[120]] = AccountContext(tier="no such tier")
    rows["99"] = AccountContext(score=1)
    portal.delete("companies", companies[7])
    outcomes = portal.client().update_accounts(rows)
    failed = {i: o for i, o in outcomes.items() if not o.ok}
    assert set(failed) == {companies[120], companies[7], "99"}
    assert failed[companies[120]].reason == "VALIDATION_ERROR: INVALID_VALUE (onetouch_tier)"
    assert not failed[companies[120]].retryable
    assert failed[companies[7]].deleted and failed["99"].deleted
    assert portal.record("companies", id=companies[250])["properties"]["onetouch_score"] == "250"


def test_a_batch_refused_as_a_whole_is_sent_again_in_halves(portal: Portal) -> None:
    companies = portal.companies(*range(1, 9))
    body = {"status": "error", "category": "VALIDATION_ERROR", "message": "one of them"}
    portal.fault(match="companies/batch/update", status=400, body=body, times=4)
    outcomes = portal.client().update_accounts({i: AccountContext(score=5) for i in companies.values()})
    assert [o.ok for o in outcomes.values()].count(False) == 1  # 8, 4, 2, 1 were refused
    assert sum("onetouch_score" in c["properties"] for c in portal.records("companies")) == 7


def test_an_update_of_a_merged_company_says_where_it_went(portal: Portal) -> None:
    companies = portal.companies(1, 2, 3)
    new = portal.post("v3/objects/companies/merge", {"primaryObjectId": companies[1], "objectIdToMerge": companies[2]})[
        "id"
    ]
    outcomes = portal.client().update_accounts({i: AccountContext(score=1) for i in companies.values()})
    assert outcomes[companies[3]].ok
    assert (outcomes[companies[2]].code, outcomes[companies[2]].retryable) == ("MERGED", True)
    assert new in outcomes[companies[1]].message


def test_accounts_are_found_by_id_then_by_domain_else_made(portal: Portal) -> None:
    companies = portal.companies(1, 2, 3, 4)
    portal.write("companies", companies[1], onetouch_account_id="org-1")
    portal.write("companies", companies[4], onetouch_account_id="org-4")
    portal.delete("companies", companies[4])
    rows = {
        f"org-{n}": {"name": f"Company {n}", "domain": f"www.Company{n}.example", "owner_id": RITA}
        for n in (1, 2, 4, 5)
    } | {"org-9": {"name": "Twin", "domain": "company1.example", "owner_id": None}}
    outcomes = portal.client().ensure_accounts(rows, "lead")
    assert all(o.ok for o in outcomes.values())
    assert (outcomes["org-1"].id, outcomes["org-2"].id) == (companies[1], companies[2])
    assert outcomes["org-4"].deleted
    made = portal.record("companies", id=str(outcomes["org-5"].id))["properties"]
    assert (made["lifecyclestage"], made["hubspot_owner_id"], made["domain"]) == ("lead", RITA, "company5.example")
    assert outcomes["org-9"].id not in companies.values()  # the company of its domain is another account's
    assert portal.record("companies", id=companies[2])["properties"]["onetouch_account_id"] == "org-2"
    assert portal.client().ensure_accounts(rows, "lead") == outcomes
    assert len(portal.records("companies")) == 6


def test_a_new_account_is_no_lead_unless_asked_for(portal: Portal) -> None:
    outcome = portal.client().ensure_accounts({"org-1": {"name": "A", "domain": None, "owner_id": None}}, "account")[
        "org-1"
    ]
    assert "lifecyclestage" not in portal.record("companies", id=str(outcome.id))["properties"]


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_is_what_hubspot_shows(portal: Portal) -> None:
    company = portal.companies(1)[1]
    contact = portal.make("contacts", email="Eve@company1.example")
    assert portal.client().contacts(["EVE@company1.example ", "nobody@x.example", ""]) == {
        ("", "eve@company1.example"): contact
    }
    outcomes = portal.client().create_tasks({"h1": task(company, contact_id=contact)})
    made = portal.record("tasks", onetouch_handoff_id="h1")
    assert outcomes["h1"].ok and outcomes["h1"].id == made["id"]
    assert made["associations"] == {"companies": [company], "contacts": [contact]}
    assert made["properties"] == {
        "hs_task_subject": "[High] Company 1 — at 92 %",
        "hs_task_body": "Hello &lt;b&gt;there&lt;/b&gt; &amp; welcome<br><br>Second line",
        "hs_task_priority": "MEDIUM",
        "hs_task_status": "NOT_STARTED",
        "hs_task_type": "TODO",
        "hs_timestamp": "2025-11-18T12:00:00.000Z",
        "hs_task_reminders": str(int(datetime(2025, 11, 18, 10, 15, tzinfo=UTC).timestamp() * 1000)),
        "hubspot_owner_id": RITA,
        "onetouch_handoff_id": "h1",
    }
    told = portal.client().tasks_of(["h1", "h2"])["h1"]
    assert told.description == "Hello <b>there</b> & welcome\n\nSecond line"
    assert (told.crm_account_id, told.owner_id, told.is_done, told.handoff_id) == (company, RITA, False, "h1")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.text("<>&;bra/p\n ", max_size=50))
def test_no_text_becomes_markup_and_none_is_lost(text: str) -> None:
    body = task_properties(TaskContent("s", description=text)).get("hs_task_body", "")
    assert "<" not in body.replace("<br>", "")
    assert text_of(body) == text.strip()


def test_a_text_longer_than_hubspot_takes_is_cut(portal: Portal) -> None:
    assert portal.client().create_tasks({"h1": task(description="<&>" * 10_000)})["h1"].ok
    body = portal.record("tasks", onetouch_handoff_id="h1")["properties"]["hs_task_body"]
    assert 50_000 < len(body) <= 65_536


def test_a_deleted_task_is_not_made_again(portal: Portal) -> None:
    first = portal.client().create_tasks({"h1": task()})["h1"]
    portal.delete("tasks", str(first.id))
    for unsure in (["h1"], []):
        again = portal.client().create_tasks({"h1": task()}, unsure)["h1"]
        assert (again.ok, again.id, again.deleted) == (True, first.id, True)
    assert len(portal.records("tasks")) == 1


@pytest.mark.parametrize("status", [400, 409])
def test_a_duplicate_is_read_by_its_key_however_hubspot_calls_it(portal: Portal, status: int) -> None:
    first = portal.client().create_tasks({"h1": task()})["h1"]
    body = {"status": "error", "category": "CONFLICT", "message": "already exists"}
    portal.fault(match="tasks/batch/create", status=status, body=body, times=9)
    outcomes = portal.client().create_tasks({"h1": task(), "h2": task()})
    assert (outcomes["h1"].ok, outcomes["h1"].id) == (True, first.id)
    assert (outcomes["h2"].ok, outcomes["h2"].code) == (False, "CONFLICT")


def test_a_duplicate_that_cannot_be_read_is_tried_again_by_the_next_run(portal: Portal) -> None:
    portal.client().create_tasks({"h1": task()})
    portal.fault(match="tasks/batch/read", status=503, body="x", times=99)
    outcome = portal.client().create_tasks({"h1": task()})["h1"]
    assert (outcome.ok, outcome.retryable) == (False, True)


def test_after_silence_it_is_looked_before_anything_is_sent_again(portal: Portal) -> None:
    portal.fault(match="tasks/batch/create", drop="answer")
    portal.fault(match="tasks/batch/create", status=400, body={"category": "SENT_TWICE"})
    assert portal.client().create_tasks({"h1": task()})["h1"].ok
    assert len(portal.org.faults()) == 1  # no second creation was sent


def test_while_hubspot_is_busy_a_creation_waits(portal: Portal) -> None:
    portal.fault(match="tasks/batch/create", status=429, body=BUSY, times=4)
    assert portal.client().create_tasks({"h1": task()})["h1"].ok
    portal.fault(match="tasks/batch/create", status=429, body=BUSY, times=9)
    with pytest.raises(Unreachable, match="TEN_SECONDLY_ROLLING"):
        portal.client().create_tasks({"h2": task()})
    assert portal.requests("tasks/batch/create") == 10


def test_a_row_refused_does_not_stop_the_others(portal: Portal) -> None:
    rows = {f"h{n:03}": task() for n in range(150)} | {"h007": task(owner_id="404"), "h120": task("77")}
    outcomes = portal.client().create_tasks(rows)
    assert {h for h, o in outcomes.items() if not o.ok} == {"h007", "h120"}
    assert outcomes["h007"].reason == "VALIDATION_ERROR: INVALID_OWNER_ID (hubspot_owner_id)"
    assert outcomes["h120"].deleted  # its company is not there
    assert len(portal.records("tasks")) == 148


def test_the_day_ending_in_the_middle_loses_no_outcome(portal: Portal) -> None:
    daily = {"status": "error", "policyName": "DAILY", "message": "You have reached your daily limit."}
    portal.fault(match="tasks/batch/create", status=429, body=daily, after=1, times=9)
    outcomes = portal.client().create_tasks({f"h{n:03}": task() for n in range(250)})
    codes = [(o.ok, o.code, o.retryable) for _, o in sorted(outcomes.items())]
    assert codes == [(True, "", False)] * 100 + [(False, "REQUEST_LIMIT_EXCEEDED", True)] * 150
    assert len(portal.records("tasks")) == 100


def test_silence_in_the_middle_loses_no_outcome(portal: Portal) -> None:
    portal.fault(match="tasks/batch/create", drop="request", after=1, times=99)
    outcomes = portal.client().create_tasks({f"h{n:03}": task() for n in range(250)})
    codes = [(o.ok, o.code, o.retryable) for _, o in sorted(outcomes.items())]
    assert codes == [(True, "", False)] * 100 + [(False, UNKNOWN, True)] * 100 + [(False, "NOT_SENT", True)] * 50


def test_nothing_sent_is_an_error_not_an_outcome(portal: Portal) -> None:
    client = portal.client()
    client.check_fields()
    portal.fault(match="tasks/batch/read", drop="request", times=99)
    with pytest.raises(Unreachable):
        client.create_tasks({"h1": task()}, unsure=["h1"])
    assert portal.records("tasks") == []


FAULTS = st.fixed_dictionaries(
    {
        "match": st.sampled_from(["tasks/batch/create", "tasks/batch/read", "tasks/batch"]),
        "after": st.integers(0, 2),
        "times": st.integers(1, 7),
        "what": st.sampled_from(
            [{"drop": "request"}, {"drop": "answer"}, {"drop": "half"}, {"status": 503, "body": "x"},
             {"status": 429, "body": BUSY}, {"status": 429, "body": {"message": "You have reached your daily limit."}},
             {"status": 409, "body": {"category": "CONFLICT"}}, {"row_error": {"statusCode": "INTERNAL_ERROR"}}]
        ),
    }
)  # fmt: skip
REPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["edit", "delete"])), max_size=3)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.sampled_from([1, 4, 101]), rounds=st.lists(st.tuples(st.lists(FAULTS, max_size=3), REPS), max_size=3))
def test_whatever_happens_each_task_is_made_once(portal: Portal, rows: int, rounds: list[Any]) -> None:
    portal.empty()
    wanted = {f"h{n:03}": task() for n in range(rows)}
    left, unsure, edited = set(wanted), set[str](), set[str]()
    for faults, reps in [*rounds, ([], [])]:
        for fault in faults:
            portal.fault(**{k: v for k, v in fault.items() if k != "what"} | fault["what"])
        try:
            outcomes = portal.client().create_tasks({h: wanted[h] for h in left}, unsure)
        except CrmError:
            outcomes = {}  # nothing was sent
        portal.http.delete(f"{portal.url}/_sandbox/faults", timeout=10)
        there = {t["properties"]["onetouch_handoff_id"]: t for t in portal.records("tasks")}
        assert not outcomes or set(outcomes) == left
        for handoff_id, outcome in outcomes.items():
            if outcome.ok:
                assert (outcome.id, outcome.deleted) == (there[handoff_id]["id"], there[handoff_id]["archived"])
            elif outcome.code != UNKNOWN and not outcome.retryable:
                assert handoff_id not in there
        left = {h for h in left if h not in outcomes or not outcomes[h].ok}
        unsure = {h for h in left if (outcomes[h].code == UNKNOWN if h in outcomes else h in unsure)}
        for number, deed in reps:
            found = there.get(f"h{number:03}")
            if found and not found["archived"]:
                portal.write("tasks", found["id"], hs_task_subject="Rita's own words")
                edited.add(f"h{number:03}")
                if deed == "delete":
                    portal.delete("tasks", found["id"])
                    found["archived"] = True
    assert left == set()
    made = [t["properties"]["onetouch_handoff_id"] for t in portal.records("tasks")]
    assert sorted(made) == sorted(wanted)
    kept = {t["properties"]["onetouch_handoff_id"]: t["properties"]["hs_task_subject"] for t in portal.records("tasks")}
    assert {kept[h] for h in edited} <= {"Rita's own words"}


def test_tasks_are_closed_with_the_reason_and_those_of_reps_left_alone(portal: Portal) -> None:
    client = portal.client()
    made = client.create_tasks({h: task() for h in ("open", "done", "released", "gone")})
    for handoff_id in ("done", "released"):
        portal.write("tasks", str(made[handoff_id].id), hs_task_status="COMPLETED", hs_task_body="<p>I called</p>")
    portal.delete("tasks", str(made["gone"].id))
    labels = {"open": WITHDRAWN, "done": WITHDRAWN, "released": RELEASED, "gone": WITHDRAWN, "never": WITHDRAWN}
    for _ in range(2):  # the second time changes nothing
        outcomes = client.close_tasks({h: (label, "1 < 2 & done") for h, label in labels.items()})
        assert all(o.ok for o in outcomes.values())
        assert {h for h, o in outcomes.items() if o.by_rep} == {"done", "released"}
        tasks = {t["properties"]["onetouch_handoff_id"]: t["properties"] for t in portal.records("tasks")}
        assert tasks["open"]["hs_task_status"] == "COMPLETED"
        assert tasks["open"]["hs_task_subject"] == "[Withdrawn] [High] Company 1 — at 92 %"
        assert tasks["open"]["hs_task_body"].startswith("Withdrawn: 1 &lt; 2 &amp; done<br><br>Hello &lt;b&gt;")
        assert tasks["done"]["hs_task_body"] == "<p>I called</p>"
        assert tasks["released"]["hs_task_body"] == "Released: 1 &lt; 2 &amp; done<br><br><p>I called</p>"
    portal.write("tasks", str(made["open"].id), hs_task_status="NOT_STARTED")  # the rep reopens it
    client.close_tasks({"open": (WITHDRAWN, "again")})
    assert portal.record("tasks", onetouch_handoff_id="open")["properties"]["hs_task_status"] == "NOT_STARTED"


def test_a_body_that_a_note_does_not_fit_on_stays_whole(portal: Portal) -> None:
    client = portal.client()
    made = client.create_tasks({"open": task(), "done": task()})
    body = f"<p>{'word ' * 13_000}</p>"
    portal.write("tasks", str(made["open"].id), hs_task_body=body + "<p>x</p>" * 64)
    portal.write("tasks", str(made["done"].id), hs_task_body=body + "<p>x</p>" * 64, hs_task_status="COMPLETED")
    outcomes = client.close_tasks({"open": (RELEASED, "silent" * 9), "done": (RELEASED, "silent" * 9)})
    assert [(o.ok, o.by_rep) for h, o in sorted(outcomes.items())] == [(True, True), (True, False)]
    tasks = {t["properties"]["onetouch_handoff_id"]: t["properties"] for t in portal.records("tasks")}
    assert tasks["open"]["hs_task_status"] == "COMPLETED"
    assert {t["hs_task_body"] for t in tasks.values()} == {body + "<p>x</p>" * 64}


def test_what_a_rep_completes_while_others_are_closed_is_left_alone(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = portal.client()
    made = client.create_tasks({f"h{n:03}": task() for n in range(101)})
    once, done = Transport._once, []

    def and_the_rep(self: Any, request: Any, *given: Any, **query: Any) -> Any:
        answer = once(self, request, *given, **query)
        if request.__name__ == "update" and not done:
            done.append(request)
            portal.write("tasks", str(made["h100"].id), hs_task_status="COMPLETED", hs_task_subject="Called her")
        return answer

    monkeypatch.setattr(Transport, "_once", and_the_rep)
    outcomes = client.close_tasks({handoff_id: (WITHDRAWN, "why") for handoff_id in made})
    assert done and all(o.ok for o in outcomes.values())
    assert {h for h, o in outcomes.items() if o.by_rep} == {"h100"}
    assert portal.record("tasks", onetouch_handoff_id="h100")["properties"]["hs_task_subject"] == "Called her"


def test_the_day_ending_while_tasks_are_closed_loses_no_outcome(portal: Portal) -> None:
    client = portal.client()
    made = client.create_tasks({f"h{n:03}": task() for n in range(101)})
    portal.fault(match="tasks/batch/update", after=1, status=429, body={"policyName": "DAILY"})
    outcomes = client.close_tasks({handoff_id: (WITHDRAWN, "why") for handoff_id in made})
    assert [(h, o.retryable) for h, o in outcomes.items() if not o.ok] == [("h100", True)]
    portal.fault(match="tasks/batch/read", status=503, times=5)
    with pytest.raises(Unreachable):
        client.close_tasks({"h100": (WITHDRAWN, "why")})


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_reps_with_their_time_zones_where_the_app_may_read_them(portal: Portal) -> None:
    zone = {"hs_internal_user_id": "9101", "hs_standard_time_zone": "Europe/Berlin"}
    portal.load(objects={"users": [{"id": 1, "properties": zone}]})
    reps = {rep["owner_id"]: rep for rep in portal.client().read_reps()}
    assert reps[RITA] == {
        "owner_id": RITA, "email": "rita@rep.example", "name": "Rita Rep", "active": True, "timezone": "Europe/Berlin",
    }  # fmt: skip
    assert (reps[OTTO]["active"], reps[OTTO]["timezone"]) == (False, None)
    portal.fault(match="/objects/users", status=403, body={"category": "MISSING_SCOPES"})
    assert {rep["timezone"] for rep in portal.client().read_reps()} == {None}


def test_accounts_beyond_a_page_all_of_them_or_what_changed(portal: Portal) -> None:
    companies = portal.companies(*range(1, 251))
    client = portal.client()
    rows = list(client.read_accounts(portal.world.policy))
    assert len({row["crm_account_id"] for row in rows}) == 250
    assert rows[0]["domain"] == "company1.example"
    assert rows[0]["created_at"] == datetime(2025, 8, 1, tzinfo=UTC)
    assert (rows[0]["owner_id"], rows[0]["account_id"], rows[0]["is_deleted"]) == (RITA, None, False)
    later = AS_OF + timedelta(hours=1)
    portal.org.clock(later)
    assert list(client.read_accounts(portal.world.policy, later)) == []
    portal.client().update_accounts({i: AccountContext(score=1) for i in list(companies.values())[:220]})
    portal.delete("companies", companies[250])
    new = portal.post("v3/objects/companies/merge", {"primaryObjectId": companies[1], "objectIdToMerge": companies[2]})[
        "id"
    ]
    changed = {row["crm_account_id"]: row for row in client.read_accounts(portal.world.policy, later)}
    assert len(changed) == 218 + 1 + 2 + 1
    assert changed[companies[250]]["is_deleted"] and changed[companies[250]]["merged_into"] is None
    assert changed[companies[2]]["is_deleted"] and changed[companies[2]]["merged_into"] == new
    assert client.gone_since(later) == {companies[250]: None, companies[1]: new, companies[2]: new}
    portal.org.post("limits", {"hubspot_search_lag": 30})  # a merge search does not know of yet is no deletion
    assert client.gone_since(later) == {companies[250]: None, companies[1]: new, companies[2]: new}
    assert client.gone_since(later + timedelta(hours=1)) == {}


def test_opportunities_are_deals_of_companies(portal: Portal) -> None:
    companies = portal.companies(1, 2, 3)
    open_ = portal.make(
        "deals", companies[1], dealname="a", dealstage="contractsent", amount="1200.5", hubspot_owner_id=RITA
    )
    won = portal.make("deals", companies[2], dealname="b", dealstage="closedwon", closedate="2025-11-17T09:00:00Z")
    lost = portal.make("deals", companies[3], dealname="c", dealstage="closedlost")
    portal.make("deals", dealname="of nobody", dealstage="contractsent")
    for company, type_id in ((companies[1], 341), (companies[3], 5)):
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}
        link = {"from": {"id": won}, "to": {"id": company}, "types": [kind]}
        portal.post("v4/associations/deals/companies/batch/create", {"inputs": [link]})
    client = portal.client()
    rows = {row["opportunity_id"]: row for row in client.read_opportunities()}
    assert set(rows) == {open_, won, lost}
    first = rows[open_]
    assert (first["crm_account_id"], first["stage"], first["amount"], first["owner_id"]) == (
        companies[1],
        "Contract Sent",
        1200.5,
        RITA,
    )
    assert [(rows[i]["is_closed"], rows[i]["is_won"]) for i in (open_, won, lost)] == [
        (False, False),
        (True, True),
        (True, False),
    ]
    assert rows[won]["crm_account_id"] == companies[3]  # of three, the primary one
    assert (rows[won]["closed_at"], first["closed_at"]) == (datetime(2025, 11, 17, 9, tzinfo=UTC), None)
    assert client.opportunities_since(AS_OF) == {companies[1], companies[3]}  # the lost one was opened since, too
    assert client.opportunities_since(AS_OF + timedelta(hours=1), {companies[1], companies[3]}) == {companies[1]}
    later = AS_OF + timedelta(hours=1)
    portal.org.clock(later)
    assert client.opportunities_since(later) == set()
    portal.delete("deals", open_)
    assert [(r["opportunity_id"], r["is_deleted"]) for r in client.read_opportunities(later)] == [(open_, True)]


def test_what_is_logged_on_a_contact_alone_is_of_its_company(portal: Portal) -> None:
    companies = portal.companies(1, 2)
    works = portal.make("contacts", companies[2], email="ann@company2.example")
    alone = portal.make("contacts", email="bob@nowhere.example")
    at = {"hs_timestamp": "2025-11-18T09:00:00Z"}
    portal.make("calls", contact=works, hs_call_title="Called Ann", hs_call_status="COMPLETED", **at)
    portal.make("meetings", contact=works, hs_meeting_title="Met Ann", **at)
    portal.make("emails", contact=works, hs_email_subject="From Ann", hs_email_direction="INCOMING_EMAIL", **at)
    portal.make("calls", companies[1], contact=works, hs_call_title="On behalf", hs_call_status="COMPLETED", **at)
    portal.make("calls", contact=alone, hs_call_title="Called Bob", hs_call_status="COMPLETED", **at)
    found = {a.subject: a.crm_account_id for a in portal.client().read_activities(AS_OF)}
    theirs = {"Called Ann": companies[2], "Met Ann": companies[2], "From Ann": companies[2]}
    assert found == theirs | {"On behalf": companies[1]}


def test_activities_are_tasks_calls_emails_and_meetings(portal: Portal) -> None:
    company = portal.companies(1)[1]
    at = "2025-11-18T09:00:00Z"
    portal.make(
        "calls", company, hs_timestamp=at, hs_call_title="Called", hs_call_status="COMPLETED", hubspot_owner_id=RITA
    )
    portal.make("calls", company, hs_timestamp=at, hs_call_title="Rings", hs_call_status="RINGING")
    portal.make(
        "emails", company, hs_timestamp=at, hs_email_subject="Wrote", hs_email_direction="EMAIL", hs_email_status="SENT"
    )
    portal.make("emails", company, hs_timestamp=at, hs_email_subject="Answer", hs_email_direction="INCOMING_EMAIL")
    portal.make(
        "meetings", company, hs_timestamp=at, hs_meeting_title="Met", hs_meeting_end_time="2025-11-18T09:30:00Z"
    )
    portal.make("meetings", company, hs_timestamp=at, hs_meeting_title="Cancelled", hs_meeting_outcome="CANCELED")
    portal.make("tasks", company, hs_timestamp=at, hs_task_subject="Done", hs_task_status="COMPLETED")
    portal.make("tasks", hs_timestamp=at, hs_task_subject="Rita's own")
    gone = portal.make("tasks", company, hs_timestamp=at, hs_task_subject="Gone", onetouch_handoff_id="h1")
    portal.delete("tasks", gone)
    found = {a.subject: a for a in portal.client().read_activities(AS_OF)}
    assert set(found) == {"Called", "Rings", "Wrote", "Answer", "Met", "Cancelled", "Done", "Gone"}
    assert [subject for subject, activity in found.items() if activity.is_answer] == ["Answer"]
    nine, half_past = datetime(2025, 11, 18, 9, tzinfo=UTC), datetime(2025, 11, 18, 9, 30, tzinfo=UTC)
    assert {s: (a.kind, a.is_done, a.done_at) for s, a in found.items() if s != "Gone"} == {
        "Called": ("call", True, nine),
        "Rings": ("call", False, None),
        "Wrote": ("email", True, nine),
        "Answer": ("email", True, nine),
        "Met": ("meeting", True, half_past),
        "Cancelled": ("meeting", False, None),
        "Done": ("task", True, AS_OF),
    }
    assert (found["Called"].crm_account_id, found["Called"].owner_id) == (company, RITA)
    assert (found["Gone"].is_deleted, found["Gone"].handoff_id) == (True, "h1")
    assert list(portal.client().read_activities(AS_OF + timedelta(minutes=1))) == []
    assert [a.handoff_id for a in portal.client().keyed_tasks(AS_OF)] == ["h1"]
    assert list(portal.client().keyed_tasks(AS_OF + timedelta(minutes=1))) == []
    assert portal.client().tasks_of(["h1"])["h1"].is_deleted


# ── the whole way ────────────────────────────────────────────────────────────────────────────────


def opened(portal: Portal, companies: dict[int, str]) -> Any:
    run = portal.world.run()
    portal.extract(run)
    portal.decide(run, companies)
    portal.deliver(run)
    return portal.world.handoff(1)


def an_hour_later(portal: Portal) -> Any:
    portal.org.clock(AS_OF + timedelta(minutes=30))
    return portal.world.run(AS_OF + timedelta(hours=1))


def test_a_handoff_follows_its_company_into_a_merge_and_its_task_to_another_rep(portal: Portal) -> None:
    companies = portal.companies(1, 2)
    portal.load(owners=[OWNERS[1] | {"archived": False}])
    handoff = opened(portal, {1: companies[1]})
    later = an_hour_later(portal)
    merge = {"primaryObjectId": companies[2], "objectIdToMerge": companies[1]}
    new = portal.post("v3/objects/companies/merge", merge)["id"]
    portal.write("tasks", handoff.task_id, hubspot_owner_id=OTTO)
    portal.extract(later)
    moved = portal.world.handoff(1)
    assert (moved.crm_account_id, moved.owner_id, moved.owner_email) == (new, OTTO, "otto@rep.example")
    assert moved.state == "task_open"


def writes(portal: Portal, company: str, at: datetime, **fields: Any) -> str:
    """The customer writes an e-mail."""
    portal.org.clock(at)
    given = {"hs_timestamp": at.isoformat(), "hs_email_direction": "INCOMING_EMAIL", "hubspot_owner_id": RITA}
    return portal.make("emails", company, **given | fields)


def test_a_customer_who_answers_by_email_is_not_released(portal: Portal) -> None:
    world, companies = portal.world, portal.companies(1)
    handoff = opened(portal, companies)
    touched, answered = AS_OF + timedelta(hours=1), AS_OF + timedelta(hours=30)
    portal.org.clock(touched)
    portal.write("tasks", handoff.task_id, hs_task_status="COMPLETED")
    portal.extract(world.run(AS_OF + timedelta(hours=2)))
    writes(portal, companies[1], answered)
    portal.extract(world.run(AS_OF + timedelta(hours=31)))
    assert (world.handoff(1).state, world.handoff(1).replied_at) == ("replied", answered)
    assert world.ledger.touches()["at"].tolist() == [touched]  # it holds nothing, and is no rep's
    end = world.run(touched + timedelta(days=8))
    portal.extract(end)
    assert back_off(world.ledger, world.policy, end, portal.client(), held=None)["released"] == 0


def test_what_a_customer_wrote_before_the_touch_is_neither_touch_nor_answer(portal: Portal) -> None:
    world, companies = portal.world, portal.companies(1)
    handoff = opened(portal, companies)
    writes(portal, companies[1], AS_OF + timedelta(minutes=10))
    portal.extract(world.run(AS_OF + timedelta(hours=1)))
    assert (world.handoff(1).state, len(world.ledger.touches())) == ("task_open", 0)
    portal.org.clock(AS_OF + timedelta(hours=2))
    portal.write("tasks", handoff.task_id, hs_task_status="COMPLETED")
    portal.extract(world.run(AS_OF + timedelta(hours=3)))
    assert world.handoff(1).state == "touched"
    gone = writes(portal, companies[1], AS_OF + timedelta(hours=4))
    portal.delete("emails", gone)
    portal.extract(world.run(AS_OF + timedelta(hours=5)))
    assert world.handoff(1).state == "touched"
    written = AS_OF + timedelta(hours=6)  # dated ahead, it came when it was written down
    writes(portal, companies[1], written, hs_timestamp="2052-11-18T10:30:00Z")
    portal.extract(world.run(AS_OF + timedelta(hours=7)))
    assert (world.handoff(1).state, world.handoff(1).replied_at) == ("replied", written)


@pytest.mark.parametrize("thing", ["calls", "emails"])
def test_what_is_dated_in_2052_counts_when_it_was_written_down(portal: Portal, thing: str) -> None:
    world, companies = portal.world, portal.companies(1)
    opened(portal, companies)
    written = AS_OF + timedelta(minutes=30)
    portal.org.clock(written)
    made = portal.make(thing, companies[1], hs_timestamp="2052-11-18T10:30:00Z", hubspot_owner_id=RITA)
    portal.org.clock(AS_OF + timedelta(minutes=50))
    portal.write(thing, made, **{"calls": {"hs_call_title": "c"}, "emails": {"hs_email_subject": "e"}}[thing])
    portal.extract(world.run(AS_OF + timedelta(hours=1)))
    assert (world.handoff(1).state, world.handoff(1).touched_at) == ("touched", written)
    assert world.ledger.touches()["at"].tolist() == [written]
    assert world.ledger.moves()["known_at"].max() == AS_OF + timedelta(hours=1)


def test_what_search_does_not_know_yet_is_read_with_the_next_run(portal: Portal) -> None:
    companies = portal.companies(1)
    portal.org.post("limits", {"hubspot_search_lag": 30})
    opened(portal, companies)
    called = AS_OF + timedelta(minutes=30)
    portal.org.clock(called)
    at = "2025-11-18T10:30:00Z"
    portal.make(
        "calls", companies[1], hs_timestamp=at, hs_call_title="c", hs_call_status="COMPLETED", hubspot_owner_id=RITA
    )
    portal.extract(portal.world.run(called))
    assert portal.world.handoff(1).state == "task_open"
    portal.org.clock(AS_OF + timedelta(hours=1))
    portal.extract(portal.world.run(AS_OF + timedelta(hours=1)))
    assert (portal.world.handoff(1).state, portal.world.handoff(1).touched_at) == ("touched", called)


def test_an_unknown_account_gets_a_company_and_the_task_names_the_contact(portal: Portal) -> None:
    world, contact = portal.world, portal.make("contacts", email="eve@company1.example")
    run = world.run()
    signals = {"crm_account_id": None, "contact_email": "Eve@company1.example"}
    world.decide(run, 1, owner_id=RITA, crm_account_id=None, signals=signals)
    portal.deliver(run)
    (company,) = portal.records("companies")
    assert company["properties"]["onetouch_account_id"] == "org-1"
    assert company["properties"]["onetouch_tier"] == "high"
    (made,) = portal.records("tasks")
    assert made["associations"] == {"companies": [company["id"]], "contacts": [contact]}
    assert world.handoff(1).crm_account_id == company["id"]


def test_what_the_days_calls_leave_goes_out_with_the_next_run(portal: Portal) -> None:
    run = portal.world.run()
    portal.decide(run, portal.companies(1, 2))
    daily = {"status": "error", "policyName": "DAILY", "message": "You have reached your daily limit."}
    portal.fault(match="tasks/batch/create", status=429, body=daily)
    with pytest.raises(DeliveryFailed, match="next run"):
        portal.deliver(run)
    assert {portal.world.handoff(n).state for n in (1, 2)} == {"context_written"}
    assert portal.deliver(run)["delivered"] == 2
    assert len(portal.records("tasks")) == 2


def test_a_task_hubspot_refuses_is_a_dead_letter_and_the_rest_goes_on(portal: Portal) -> None:
    run = portal.world.run()
    portal.decide(run, portal.companies(1, 2))
    refusal = {"statusCode": "VALIDATION_ERROR", "message": "no"}
    portal.fault(match="tasks/batch/create", row_error=refusal, rows=[0])
    with pytest.raises(DeliveryFailed, match="VALIDATION_ERROR"):
        portal.deliver(run)
    assert len(portal.records("tasks")) == 1
    dead = [row for row in portal.world.ledger.dump()["outbox"] if row["state"] == "failed"]
    assert [row["key"].split(":")[0] for row in dead] == ["task"]


def seen(portal: Portal) -> dict[str, Any]:
    """Ledger and CRM as they ended, without the stand-in's numbering."""
    tasks = portal.records("tasks")
    names = {t["id"]: f"task of {t['properties']['onetouch_handoff_id']}" for t in tasks}
    assert len(set(names.values())) == len(tasks)
    dump = portal.world.ledger.dump()
    for row in dump["handoffs"]:
        row["task_id"] = names.get(row["task_id"], row["task_id"])
    for row in dump["outbox"]:
        row["external_id"] = names.get(row["external_id"], row["external_id"])
        del row["attempts"]
    dump["outbox"].sort(key=lambda row: row["key"])
    kept = {names[t["id"]]: (t["properties"], t["associations"]) for t in tasks}
    return {"ledger": dump, "tasks": kept, "companies": [c["properties"] for c in portal.records("companies")]}


def test_killed_anywhere_and_run_again_nobody_can_tell(
    make_world: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now: dict[str, Any] = {}
    send = urllib3.PoolManager.request

    def mortal(self: urllib3.PoolManager, method: str, url: str, **more: Any) -> Any:
        effects = now["world"].ledger.effects if url.endswith(("/create", "/update")) else None
        if effects:
            effects.happens()
        answer = send(self, method, url, **more)
        if effects:
            effects.happens()
        return answer

    monkeypatch.setattr(urllib3.PoolManager, "request", mortal)

    def ready(name: str) -> tuple[Portal, Any]:
        now["world"] = world = make_world(name)
        portal = Portal(world.org, world)
        portal.empty()
        run = world.run()
        portal.decide(run, portal.companies(1, 2))
        world.rechecked = {"org-2": BUYING}
        return portal, run

    portal, run = ready("undisturbed")
    portal.world.mortal(None)
    portal.deliver(run)
    effects = portal.world.effects.count
    portal.world.immortal()
    undisturbed = seen(portal)
    assert effects >= 20
    assert len(undisturbed["tasks"]) == 1
    # Every commit and write happens twice, before and after: before one is after the last.
    for die_at in range(2, effects + 1, 2):
        portal, run = ready(f"killed-{die_at}")
        portal.world.mortal(die_at)
        with pytest.raises(BaseException) as death:  # noqa: PT011 - Killed is the fixture's
            portal.deliver(run)
        assert type(death.value).__name__ == "Killed"
        portal.world.immortal()
        summary = portal.deliver(run)
        assert (summary["delivered"], summary["withheld"]) == (1, {"checkout": 1})
        assert seen(portal) == undisturbed, f"killed at effect {die_at}"


def test_two_runs_at_once_make_one_task_each(portal: Portal) -> None:
    run = portal.world.run()
    portal.decide(run, portal.companies(1, 2, 3))
    errors: list[BaseException] = []

    def once() -> None:
        try:
            portal.deliver(run)
        except BaseException as error:  # noqa: BLE001 - the test's thread must tell
            errors.append(error)

    threads = [Thread(target=once) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(portal.records("tasks")) == 3
    assert {portal.world.handoff(n).state for n in (1, 2, 3)} == {"task_open"}


def test_a_task_in_the_crm_before_the_policy_changed_it_is_told_once_and_ends(portal: Any, world: Any) -> None:
    company = portal.companies(1)
    run = world.run()
    portal.extract(run)
    portal.decide(run, company)
    portal.deliver(run)
    later = AS_OF + timedelta(hours=73)
    world.org.clock(later)
    with pytest.raises(DeliveryFailed, match="its task is in hubspot, and stays open there: close it by hand"):
        back_off(world.ledger, world.policy, world.run(later), world.salesforce(), held=None)
    assert world.handoff(1).state == "expired"
    assert portal.records("tasks")[0]["properties"]["hs_task_status"] == "NOT_STARTED"
    next_hour = later + timedelta(hours=1)
    assert back_off(world.ledger, world.policy, world.run(next_hour), world.salesforce(), held=None)["failed"] == []
