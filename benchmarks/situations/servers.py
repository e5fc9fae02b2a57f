"""What servers do: HubSpot's limits, gateways and search, and PostgreSQL behind a pooler or through a failover."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer
from typing import Any

from onetouch.crm import Crm, CrmError, connect
from onetouch.delivery import DeliveryFailed, deliver_tasks
from onetouch.ledger import Ledger
from onetouch.stop import Stopped
from sqlalchemy.exc import DBAPIError

from benchmarks.situations.situation import Seen, Stage, situation
from judges.faults.real import Company, Deliverers, pgbouncer, postgresql, postgresql_server, take_writes
from tests.contracts.crm_stand_ins import StandIn
from tests.delivery.world import AS_OF, World

CREATION = "tasks/batch/create"


class Account:
    """A company with HubSpot, and a run that hands over some accounts."""

    def __init__(self, stage: Stage, accounts: int) -> None:
        limits = {"assignment__tasks_per_day": 1000, "assignment__tasks_per_rep_per_day": 1000}
        self.world: World = stage.world(crm__system="hubspot", delivery__approval_above=None, **limits)
        self.there: StandIn = stage.crm(self.world, "hubspot")
        self.waited: list[float] = []
        self.records = self.there.accounts(*range(1, accounts + 1))
        self.run = self.decided(timedelta(0))

    def decided(self, after: timedelta) -> Any:
        """A run so much later that hands over all accounts that may be."""
        self.there.clock(AS_OF + after)
        run = self.world.run(AS_OF + after)
        self.world.decide(run, *self.records, owner_id=self.there.rita)
        for room in ("decisions", "signals"):
            rows = self.world.lake.read(room, f"{run.run_id}.parquet")
            rows["crm_account_id"] = list(self.records.values())
            self.world.lake.write(rows, room, f"{run.run_id}.parquet")
        return run

    def fault(self, **spec: Any) -> None:
        """Plans a fault in the stand-in."""
        self.world.org.post("faults", [spec])

    def client(self, **given: Any) -> Crm:
        """A client that notes how long it was to wait."""
        return connect(self.there.connection, self.world.policy, sleep=self.waited.append, **given)

    def deliver(self, run: Any = None, **given: Any) -> str:
        """Delivers; gives what was not green, empty when all was."""
        world = self.world
        try:
            deliver_tasks(
                world.lake, world.ledger, world.policy, run or self.run, self.client(**given), recheck=lambda ids: {},
                held=None,
            )  # fmt: skip
        except (CrmError, DeliveryFailed, Stopped) as error:
            return str(error)
        return ""

    def tasks(self) -> list[str | None]:
        """The handoff of each task."""
        return [task.handoff_id for task in self.there.tasks() if not task.is_deleted]

    def open_handoffs(self) -> int:
        """Handoffs whose task is open, as the ledger has it."""
        return len(self.world.ledger.handoffs(states=["task_open"]))


def _once(account: Account, wanted: int) -> bool:
    return len(account.tasks()) == len(set(account.tasks())) == account.open_handoffs() == wanted


@situation(
    source="HubSpot/hubspot-api-php #59, Flagsmith/flagsmith #5739",
    happens="HubSpot's search does not find a company until a minute after it was created; the next run comes before.",
    expected="One company: it is found by its own unique id, which needs no search.",
)
def search_finds_a_new_company_too_late(stage: Stage) -> Seen:
    account = Account(stage, 1)
    account.world.org.post("limits", {"hubspot_search_lag": 60})
    new = {"org-9": {"name": "Nine", "domain": "nine.example", "owner_id": account.there.rita}}
    ids = {account.client().ensure_accounts(new, "account")["org-9"].id for _ in range(3)}
    companies = account.there.how_many_accounts()
    return Seen(len(ids) == 1 and companies == 2, f"asked three times: {len(ids)} record, {companies} companies")


@situation(
    source="openSUSE/osc #1860, HubSpot/hubspot-php #341",
    happens="A gateway answers 504 for a batch of 60 tasks that HubSpot carries out all the same.",
    expected="Before anything is sent again it is looked: 60 tasks, none twice.",
)
def a_gateway_gives_up_on_a_batch_that_is_carried_out(stage: Stage) -> Seen:
    account = Account(stage, 60)
    account.fault(match=CREATION, error="GATEWAY_TIMEOUT", executed=True)
    said = account.deliver()
    return Seen(not said and _once(account, 60), f"{said or 'green'}, {len(account.tasks())} tasks")


@situation(
    source="HubSpot/hubspot-api-python #117",
    happens="Another app uses up the ten-second limit, so the batch is answered 429 TEN_SECONDLY_ROLLING twice.",
    expected="Each time at least ten seconds are waited, until the window ends; then the tasks are there once.",
)
def the_limit_of_ten_seconds_is_used_up_by_another_app(stage: Stage) -> Seen:
    account = Account(stage, 5)
    account.fault(match=CREATION, error="TEN_SECONDLY_ROLLING", times=2)
    said = account.deliver()
    waits = [round(seconds) for seconds in account.waited]
    holds = not said and len(waits) == 2 and min(waits) >= 10 and _once(account, 5)
    return Seen(holds, f"{said or 'green'}, waited {waits} s, {len(account.tasks())} tasks")


@situation(
    source="NangoHQ/nango #4046, supaglue-labs/supaglue #484",
    happens="The day's calls are used up after the first 100 of 150 tasks.",
    expected="The run says DAILY and tries no more; 100 are on record; the run of the next day sends the other 50.",
)
def the_days_calls_end_in_mid_delivery(stage: Stage) -> Seen:
    account = Account(stage, 150)
    account.fault(match=CREATION, error="DAILY", after=1)
    red = account.deliver()
    first, on_record = len(account.tasks()), account.open_handoffs()
    green = account.deliver(account.decided(timedelta(days=1)))
    holds = "DAILY" in red and first == on_record == 100 and not green and _once(account, 150)
    return Seen(holds, f"first {first} tasks, {on_record} on record, then {len(account.tasks())}; {green or 'green'}")


@situation(
    source="HubSpot/hubspot-api-python #51",
    happens="In a batch of 40 tasks HubSpot refuses two rows, and answers 207 with an error for each.",
    expected="38 tasks; two handoffs are named with HubSpot's reason.",
)
def two_rows_of_a_batch_are_refused(stage: Stage) -> Seen:
    account = Account(stage, 40)
    account.fault(match=CREATION, row_error="VALIDATION_ERROR", rows=[3, 7], times=2)
    red = account.deliver()
    left = [row.reason for row in account.world.ledger.unsent() if row.kind == "task"]
    named = all("INVALID_OPTION (hs_task_priority)" in reason for reason in left)
    holds = bool(red) and len(left) == 2 and named and _once(account, 38)
    return Seen(holds, f"{len(account.tasks())} tasks, {len(left)} refused: {left[0] if left else ''}")


@situation(
    source="ours",
    happens="Somebody calls `onetouch stop` while the first of three batches is under way, and `resume` later.",
    expected="What was sent is on record, nothing is sent after; then the others go out, and none twice.",
)
def stopped_in_mid_batch(stage: Stage) -> Seen:
    account = Account(stage, 250)
    said = account.deliver(stopped=lambda: "fire" if account.tasks() else None)
    first, on_record = len(account.tasks()), account.open_handoffs()
    again = account.deliver()
    holds = "fire" in said and first == on_record == 100 and not again and _once(account, 250)
    return Seen(holds, f"{first} tasks when it stopped, {on_record} on record, then {len(account.tasks())}")


@contextmanager
def _company(stage: Stage, ledger_url: str) -> Iterator[Company]:
    stage.org.empty()
    (home := stage.folder / "company").mkdir()
    company = Company.founded(home, stage.org.url, ledger_url, "hubspot")
    try:
        yield company
    finally:
        company.ledger.close()


@situation(
    source="goauthentik/authentik #23876, pgbouncer/pgbouncer #102",
    happens="The ledger is behind PgBouncer in transaction mode; three processes deliver the same run at once.",
    expected="One sends, the others wait and find nothing left; afterwards the lock is free.",
)
def behind_pgbouncer_three_deliver_at_once(stage: Stage) -> Seen:
    deliverers = Deliverers()
    try:
        with postgresql() as direct, pgbouncer(direct) as url, _company(stage, direct) as company:
            command = company.command(company.decide(20), url)
            errors = [answer["error"] for answer in deliverers.run(command, at_once=3) if answer["error"]]
            with Ledger(url) as ledger, ledger.alone("delivery", wait=1):
                wrong = company.wrong()
            tasks = len(company.side.tasks(company.get))
    except FileNotFoundError as error:
        return Seen(True, f"not played: {error}")
    finally:
        deliverers.close()
    return Seen(not errors and not wrong, f"{errors or 'no error'}, {tasks} tasks, {wrong or 'ledger and CRM agree'}")


@situation(
    source="psycopg/psycopg #280",
    happens="The ledger's URL names the newer driver, which prepares statements that PgBouncer's connections lose.",
    expected="No statement is prepared on the server; fifty equal ones in a row are answered.",
)
def behind_pgbouncer_the_newer_driver_prepares_nothing(stage: Stage) -> Seen:
    try:
        with postgresql() as direct, pgbouncer(direct) as url, Ledger(url.replace("psycopg2", "psycopg")) as ledger:
            ledger.migrate()
            with ledger.alone("one"), ledger.alone("another"):
                pass  # the pooler has several connections now, and uses them in turn
            for day in range(50):
                ledger.advance_watermark("amplitude", AS_OF + timedelta(days=day))
            marks = ledger.dump()["watermarks"]
    except (FileNotFoundError, ImportError) as error:
        return Seen(True, f"not played: {error}")
    return Seen(len(marks) == 1, f"50 transactions, watermark at {marks[0]['until']}")


@situation(
    source="apache/airflow #40882",
    happens="The tasks have been written when the database fails over to a standby that takes no writes.",
    expected="The run ends with one line that says so; later the next run adopts them: none lost, none twice.",
)
def a_failover_to_a_read_only_server_in_mid_delivery(stage: Stage) -> Seen:
    with postgresql() as url, _company(stage, url) as company:
        run = company.decide(12)

        class FailsOver:
            """The CRM's client; the database fails over when the tasks have been written."""

            def __init__(self) -> None:
                self.client = connect(company.side.connection(company.url), company.policy)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.client, name)

            def create_tasks(self, *given: Any) -> Any:
                made = self.client.create_tasks(*given)
                take_writes(url, False)
                return made

        said = "green"
        try:
            company.deliver(run, FailsOver())
        except DBAPIError as error:
            said = str(error)
        take_writes(url, True)
        company.deliver(run)
        wrong = company.wrong()
        holds = "takes no writes now" in said and "\n" not in said and not wrong
        return Seen(holds, f"{said.partition(' (')[0]}; then {wrong or '12 tasks, ledger and CRM agree'}")


@situation(
    source="apache/airflow #38252",
    happens="The database server crashes and is restarted at six moments of six deliveries by real processes.",
    expected="A delivery goes on when the server answers again, or ends with one line; the next one completes it.",
)
def the_database_server_restarts_in_mid_delivery(stage: Stage) -> Seen:
    deliverers, lines, wrong = Deliverers(), list[str](), list[str]()
    try:
        with postgresql_server() as server, _company(stage, server.url) as company:
            [first] = deliverers.run(company.command(company.decide(8), server.url))
            for moment in range(6):
                command = company.command(company.decide(8), server.url)
                cut = Timer(first["seconds"] * moment / 6, server.restart)
                cut.start()
                [died] = deliverers.run(command)
                cut.join()
                lines += [died["error"]] if died["error"] else []
                [again] = deliverers.run(command)
                wrong += [again["error"]] if again["error"] else company.wrong()
    finally:
        deliverers.close()
    one = all("\n" not in line and "ledger: the connection" in line for line in lines)
    return Seen(
        one and not wrong, f"{6 - len(lines)} went on, {len(lines)} ended with one line; {wrong or 'none lost'}"
    )
