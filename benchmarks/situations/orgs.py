"""Orgs have rules of their own: required fields, values, record types, validation rules, currencies and queues."""

from __future__ import annotations

from datetime import date
from typing import Any

from onetouch.crm import RELEASED
from onetouch.crm.protocol import Finding
from onetouch.crm_sync import extract_crm
from onetouch.handoff import TaskContent
from onetouch.sandbox.fields import make_id

from benchmarks.situations.refusals import refused
from benchmarks.situations.situation import Seen, Stage, situation
from tests.crm.portal import Portal
from tests.delivery.world import AS_OF, OTHER, World, crm_id

NOTHING: dict[str, dict[str, Any]] = {"task": {}, "account": {}, "lead": {}, "contact": {}}
NO_TYPES: dict[str, str | None] = dict.fromkeys(NOTHING)
REGION = {"name": "Region__c", "type": "picklist", "values": ["EMEA", "APAC"], "required": True}
RATES = {"USD": 1, "JPY": 150}
TODAY: date = AS_OF.date()


def delivered(world: World, **signals: Any) -> str:
    """What a run for one account says that is not green; empty when it is."""
    world.accounts(1)
    run = world.run()
    world.decide(run, 1, signals=signals)
    return refused(world, run)


def checked(world: World) -> list[Finding]:
    return world.salesforce().rehearse(world.policy, TODAY)


def _lines(found: list[Finding]) -> str:
    return " | ".join(finding.line for finding in found) or "nothing found"


@situation(
    source="MinnPost/object-sync-for-salesforce #189",
    happens="The org requires a region on every task, which an integration that knows its own fields only cannot give.",
    expected="The policy names the field and a fact; the task is written with the account's region.",
)
def required_field_of_the_orgs_own(stage: Stage) -> Seen:
    world = stage.world(crm__extra_fields=NOTHING | {"task": {"Region__c": "{region}"}})
    world.org.post("rules", {"fields": {"Task": [REGION]}})
    red = delivered(world, region="EMEA")
    regions = [task["Region__c"] for task in world.org.tasks()]
    return Seen(not red and regions == ["EMEA"], f"tasks with the region {', '.join(map(str, regions)) or 'none'}")


@situation(
    source="SalesforceFoundation/NPSP #3394",
    happens="Two fields were made required; whoever meets the first refusal learns of one of them only.",
    expected="`crm check` names both before the first task, with who can mend them, and leaves nothing behind.",
)
def required_fields_found_before_the_first_task(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1)
    fields = [REGION, {"name": "Reason__c", "required": True}]
    world.org.post("rules", {"fields": {"Task": fields}, "admins": [OTHER]})
    found = checked(world)
    holds = {f.field for f in found} == {"Region__c", "Reason__c"} and all(f.who == "Otto" for f in found)
    return Seen(holds and not world.org.tasks(), f"{_lines(found)}; {len(world.org.tasks())} tasks")


@situation(
    source="apex-enterprise-patterns/fflib-apex-common #293, funraise/Funraise-Salesforce #11",
    happens="The org's statuses and priorities have other names (Niet gestart, Hoog), and other ones are refused.",
    expected="The policy maps them; tasks are created and closed with the org's own values.",
)
def statuses_and_priorities_in_another_language(stage: Stage) -> Seen:
    values = {"open": "Niet gestart", "closed": "Voltooid", "high": "Hoog", "medium": "Normaal", "low": "Laag"}
    world = stage.world(crm__task_values=values)
    fields = [{"name": "Status", "values": ["Niet gestart", "Voltooid"], "default": "Niet gestart"},
              {"name": "Priority", "values": ["Hoog", "Normaal", "Laag"], "default": "Normaal"}]  # fmt: skip
    world.org.post("rules", {"fields": {"Task": fields}, "closed": ["Voltooid"]})
    delivered(world)
    made = [(task["Status"], task["Priority"]) for task in world.org.tasks()]
    (handoff,) = world.ledger.handoffs()
    world.salesforce().close_tasks({handoff.handoff_id: (RELEASED, "no response")})
    closed = [task["Status"] for task in world.org.tasks() if task["IsClosed"]]
    return Seen(made == [("Niet gestart", "Hoog")] and closed == ["Voltooid"], f"created {made}, closed {closed}")


@situation(
    source="SFDO-Community/declarative-lookup-rollup-summaries #525",
    happens="All went well in the sandbox; in production a validation rule refuses open activities of high priority.",
    expected="Describe cannot show it: the trial that is undone finds it, in the rule's words, and nothing stays.",
)
def validation_rule_of_production_only(stage: Stage) -> Seen:
    world = stage.world()
    world.accounts(1)
    before = checked(world)
    rule = {"object": "Task", "when": {"Priority": "High"}, "message": "No urgent tasks, please.", "field": "Priority"}
    world.org.post("rules", {"validations": [rule]})
    found = checked(world)
    holds = not before and [f.field for f in found] == ["Priority"] and not world.org.tasks()
    return Seen(holds, f"sandbox: {_lines(before)}; production: {_lines(found)}; {len(world.org.tasks())} tasks")


@situation(
    source="mbotos/SmartFactory-for-Force.com #25, SalesforceFoundation/NPSP #684",
    happens="Tasks need a record type; the integration user's profile is not assigned to it.",
    expected="It is named before anything is sent; once it is assigned, tasks have it.",
)
def record_type_that_the_user_may_not_use(stage: Stage) -> Seen:
    world = stage.world(crm__record_types=NO_TYPES | {"task": "Product_Led"})
    kind = {"developer_name": "Product_Led", "available": False}
    world.org.post("rules", {"record_types": {"Task": [kind]}})
    try:
        checked_before = world.salesforce().check_fields() or "nothing"
    except Exception as error:  # noqa: BLE001 - what is said is what is looked at
        checked_before = str(error)
    world.org.post("rules", {"record_types": {"Task": [kind | {"available": True}]}})
    delivered(world)
    types = [task["RecordTypeId"] for task in world.org.tasks()]
    holds = "no record type Product_Led" in str(checked_before) and types == [make_id("012", 1)]
    return Seen(holds, f"before: {str(checked_before)[:80]}…; after: {len(types)} task of the type")


@situation(
    source="SFDO-Community/declarative-lookup-rollup-summaries #217",
    happens="An account in Tokyo has an ARR of 900,000 in yen, in an org whose corporate currency is the dollar.",
    expected="It is an account of $6,000, by the org's own rate, and not of $900,000.",
)
def yen_are_not_dollars(stage: Stage) -> Seen:
    world = stage.world()
    world.org.post("rules", {"currencies": RATES})
    world.accounts(1, ARR__c=900_000, CurrencyIsoCode="JPY")
    (account,) = world.salesforce().read_accounts(world.policy)
    return Seen(account["arr"] == 6_000.0, f"an ARR of {account['arr']}")


@situation(
    source="Portwood-Global-Solutions/Portwood #297",
    happens="The currency of an account was deactivated, so that there is no rate any more.",
    expected="Its ARR is unknown, which the run says once with the number; it is not taken as it stands.",
)
def no_rate_is_no_amount(stage: Stage) -> Seen:
    world = stage.world()
    world.org.post("rules", {"currencies": RATES})
    world.accounts(1, 2, ARR__c=900_000, CurrencyIsoCode="JPY")
    world.org.post("rules", {"currencies": {"USD": 1}, "fields": {"Account": [{"name": "CurrencyIsoCode"}]}})
    read = extract_crm(world.lake, world.ledger, world.policy, run := world.run(), world.salesforce())
    arr = world.lake.read("crm", run.run_id, "accounts.parquet")["arr"]
    said = [line for line in read["warnings"] if "JPY" in line]
    return Seen(bool(arr.isna().all()) and len(said) == 1, "; ".join(said) or "nothing said")


@situation(
    source="SalesforceFoundation/NPSP #4714",
    happens="The org keeps dated rates (advanced currency management); a deal closed when the rate was another one.",
    expected="The deal's amount goes by the rate of its close date.",
)
def deal_of_a_time_with_another_rate(stage: Stage) -> Seen:
    world = stage.world()
    dated = [{"currency": "JPY", "start": "2025-01-01", "next_start": "2025-06-01", "rate": 100}]
    world.org.post("rules", {"currencies": RATES, "dated_rates": dated})
    world.accounts(1)
    fields = {"Name": "D", "StageName": "Closed Won", "CloseDate": "2025-02-01", "Amount": 30_000}
    world.rep_writes("Opportunity", None, AccountId=crm_id(1), CurrencyIsoCode="JPY", **fields)
    (deal,) = world.salesforce().read_opportunities()
    return Seen(deal["amount"] == 300.0, f"{deal['amount']} dollars")


@situation(
    source="mattermost/mattermost-data-warehouse #1217, mshanemc/roundRobinProcessBuilder #24",
    happens="An account belongs to a queue (an id that begins with 00G), which cannot own what a user owns.",
    expected="A queue is no rep: the account has no owner by whom it could be assigned.",
)
def a_queue_owns_the_account(stage: Stage) -> Seen:
    world = stage.world()
    queue = make_id("00G", 1)
    world.org.post("rules", {"queues": [queue]})
    world.accounts(1, OwnerId=queue)
    world.accounts(2)
    extract_crm(world.lake, world.ledger, world.policy, run := world.run(), world.salesforce())
    accounts = world.lake.read("crm", run.run_id, "accounts.parquet").set_index("crm_account_id")
    owner = accounts.loc[crm_id(1), "owner_email"]
    holds = accounts["owner_email"].isna().tolist() == [True, False] and accounts["owner_active"].isna().tolist()[0]
    return Seen(
        bool(holds), f"owner of the queue's account: {owner}, of the other: {accounts.loc[crm_id(2), 'owner_email']}"
    )


@situation(
    source="PipedreamHQ/pipedream #12366",
    happens="HubSpot refuses a task without a due time, and one with a value that its property does not offer.",
    expected="Each task has its time; a value that is not offered is found before it is written.",
)
def hubspot_properties_and_options(stage: Stage) -> Seen:
    world = stage.world()
    portal = Portal(stage.org, world)
    portal.empty()
    company = portal.companies(1)[1]
    task = TaskContent("Call", due_on=TODAY, crm_account_id=company)
    (outcome,) = portal.client().create_tasks({"k" * 32: task}).values()
    own = NOTHING | {"task": {"hs_task_type": "LETTER"}}
    policy = world.policy.changed(crm__system="hubspot", crm__extra_fields=own)
    found = portal.client().rehearse(policy, TODAY)
    return Seen(
        outcome.ok and [f.field for f in found] == ["hs_task_type"], f"task taken: {outcome.ok}; {_lines(found)}"
    )
