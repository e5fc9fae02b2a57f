"""`onetouch …`: the pipeline's stages and what they left behind, without a scheduler.

This is an edge: it reads the clock and the environment, and hands both to the library as arguments.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from onetouch.terminal import console

if TYPE_CHECKING:
    from onetouch.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Product usage becomes the few sales conversations worth having; everyone else is left alone.",
)
policy_app = typer.Typer(no_args_is_help=True, help="The rules of engagement.")
app.add_typer(policy_app, name="policy")
outbox_app = typer.Typer(invoke_without_command=True, help="What is to be written outside, and what was refused.")
app.add_typer(outbox_app, name="outbox")
crm_app = typer.Typer(no_args_is_help=True, help="The CRM as the integration needs it.")
app.add_typer(crm_app, name="crm")

out = console()
err = console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
AsOf = Annotated[str | None, typer.Option(help="The moment to decide for, ISO 8601 with zone. Default: now.")]
RunId = Annotated[str | None, typer.Option(help="Of this run. Default: the last.")]
PolicyFile = Annotated[Path | None, typer.Option(help="What differs from the default policy.")]


@app.callback()
def main(
    context: typer.Context,
    home: Annotated[Path, typer.Option(envvar="ONETOUCH_HOME", help="Holds lake and ledger.")] = Path(".onetouch"),
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log.")] = False,
) -> None:
    """Options of every command."""
    context.obj = home
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s %(message)s")


@app.command()
def run(
    context: typer.Context,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources. Default: the policy's.")] = None,
    exports: Annotated[Path | None, typer.Option(help="Folder of the vendor's answers, instead of its API.")] = None,
    accounts: Annotated[Path | None, typer.Option(help="CSV or Parquet of accounts, instead of the CRM.")] = None,
    as_of: AsOf = None,
    policy: PolicyFile = None,
    shadow: Annotated[Path | None, typer.Option(help="A second policy: what it would do is kept, not done.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute everything, send nothing.")] = False,
    approve: Annotated[bool, typer.Option("--approve", help="Yes to more new tasks than go unasked.")] = False,
    as_json: Json = False,
) -> None:
    """Run every stage in this process and account for every row, account and decision."""
    from onetouch import stages
    from onetouch.policy import read_policy

    now = datetime.now(UTC)
    with _one_line_errors():
        moment = _moment(as_of, now)
        for path, name in ((exports, "--exports"), (accounts, "--accounts")):
            if path is not None and not path.exists():
                raise ValueError(f"{name}: {path} does not exist; give an existing path")
        workspace = _workspace(context, policy, exports=exports, accounts=accounts, shadow=shadow)
        if shadow is not None:
            read_policy(shadow)  # a person waits: a broken one is told now, not after the run
        workspace = stages.with_sources(workspace, source)
        run_id = stages.begin(workspace, moment, now, dry_run=dry_run)
        stopped = None
        with _progress(quiet=as_json) as step:
            try:
                by = f"{getpass.getuser()} (command line)" if approve else None
                stages.run_all(workspace, moment, now, dry_run=dry_run, approved_by=by, started=step)
            except (stages.ChecksFailed, stages.DeliveryFailed, stages.Stopped) as error:
                stopped = str(error)
        result = stages.accounting(workspace, run_id) | ({"stopped": stopped} if stopped else {})
        if as_json:
            typer.echo(json.dumps(result))
        else:
            _show_accounting(result)
        if stopped:
            _fail(stopped)


@app.command()
def decisions(
    context: typer.Context,
    action: Annotated[str | None, typer.Option(help="Only this action.")] = None,
    run: RunId = None,
    as_json: Json = False,
) -> None:
    """The decisions of the last run, best score first; with --json one object a line."""
    from onetouch import audit, screen

    with _one_line_errors():
        workspace = _installation(context)
        of = audit.run_of(workspace.lake, workspace.ledger, run)
        rows = audit.decision_rows(workspace.lake, of, action=action)
        if as_json:
            for row in rows:
                typer.echo(json.dumps(row))
            return
        out.print(screen.decisions(rows, of, workspace.policy, out.width))


@app.command()
def explain(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="Its id, as `onetouch decisions` shows it, or its name or domain.")],
    run: RunId = None,
    as_of: Annotated[str | None, typer.Option(help="As of this moment: the last run up to it.")] = None,
    as_json: Json = False,
) -> None:
    """Why an account got its decision: every rule in order, the score, and what would change it."""
    from onetouch import audit, screen

    with _one_line_errors():
        workspace = _installation(context)
        moment = None if as_of is None else _moment(as_of, datetime.now(UTC))
        of = audit.run_of(workspace.lake, workspace.ledger, run, moment)
        found = audit.explain(workspace.lake, workspace.ledger, of, account)
        if as_json:
            typer.echo(json.dumps(found.record()))
        else:
            out.print(screen.explanation(found))


@app.command()
def assignments(context: typer.Context, run: RunId = None, as_json: Json = False) -> None:
    """Who got what in the last run, and why; what waits for whom."""
    from onetouch import audit, screen

    with _one_line_errors():
        workspace = _installation(context)
        of = audit.run_of(workspace.lake, workspace.ledger, run)
        reps, tasks = audit.assigned(workspace.lake, workspace.ledger, of)
        if as_json:
            typer.echo(json.dumps({"run_id": of.run_id, "reps": audit.plain(reps), "tasks": audit.plain(tasks)}))
        else:
            out.print(screen.assignments(audit.plain(reps), audit.plain(tasks)))


@app.command()
def replay(
    context: typer.Context,
    decision: Annotated[str | None, typer.Argument(help="Id of a decision. Without one: give --run.")] = None,
    run: Annotated[str | None, typer.Option(help="Replay this run, whole or only the decision.")] = None,
    as_json: Json = False,
) -> None:
    """Make past decisions again from what was stored then, and compare them byte for byte; exit 1 when they differ."""
    from onetouch import audit, screen

    with _one_line_errors():
        if decision is None and run is None:
            raise ValueError("replay: give a decision's id, or --run and a run's")
        workspace = _installation(context)
        if run is None:
            assert decision is not None
            run = audit.find(workspace.lake, decision).run_id
        found = audit.replay(workspace.lake, workspace.ledger, run, None if decision is None else [decision])
        result: dict[str, Any] = {
            "run_id": run,
            "decision_id": decision,
            "identical": found.empty,
            "differences": audit.plain(found),
        }
        if left_out := audit.forgotten_in(workspace.lake, run):
            result["forgotten"] = left_out
        if as_json:
            typer.echo(json.dumps(result))
        else:
            out.print(screen.replayed(result))
        if not found.empty:
            _fail(f"run {run}: {found['account_id'].nunique()} decisions come out otherwise today")


@app.command()
def shadow(context: typer.Context, run: RunId = None, as_json: Json = False) -> None:
    """What the shadow policy would have done otherwise in the last run."""
    from onetouch import audit, experiments, screen

    with _one_line_errors():
        workspace = _installation(context)
        of = audit.run_of(workspace.lake, workspace.ledger, run)
        found = experiments.read_shadow(workspace.lake, workspace.ledger, of)
        typer.echo(json.dumps(found.record())) if as_json else out.print(screen.difference(found))


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Whether anything is stopped, what waits or was refused, and what became of the last runs."""
    from onetouch import screen, stages

    with _one_line_errors():
        found = stages.status(_installation(context))
        typer.echo(json.dumps(found)) if as_json else out.print(screen.status(found))


@app.command()
def stop(
    context: typer.Context,
    reason: Annotated[list[str], typer.Argument(help="Why, for those who find it.")],
    as_json: Json = False,
) -> None:
    """Write nothing outside any more, whatever runs, until `onetouch resume`: no task, no field, no message."""
    with _one_line_errors():
        ledger = _installation(context).ledger
        begun = ledger.stop(" ".join(reason), datetime.now(UTC))
        stopped = ledger.stopped()
        if as_json:
            typer.echo(json.dumps({"stopped": stopped, "begun": begun}))
        else:
            said = "stopped" if begun else "stopped already, and your reason is not kept beside the first"
            out.print(Text(f"{said}: {stopped}\nnothing is written outside until onetouch resume", style="red"))


@app.command()
def resume(context: typer.Context, as_json: Json = False) -> None:
    """Lift the stop. What waited is decided or sent by the next run."""
    with _one_line_errors():
        ledger = _installation(context).ledger
        stopped = ledger.stopped()
        if not ledger.resume(datetime.now(UTC)):
            _fail("resume: nothing was stopped here; Airflow's own switch is its Variable onetouch_stop")
        if as_json:
            typer.echo(json.dumps({"stopped": None, "lifted": stopped}))
        else:
            out.print(Text(f"resumed; it was stopped: {stopped}\nthe next run decides and sends", style="green"))


@outbox_app.callback()
def outbox(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only this state. Default: what is still to be sent.")] = None,
    as_json: Json = False,
) -> None:
    """What was not sent: dead letters with the reason of their refusal, and what waits for the next run."""
    if context.invoked_subcommand is not None:
        return
    from onetouch import screen
    from onetouch.ledger.tables import OUTBOX_STATES

    with _one_line_errors():
        if state is not None and state not in OUTBOX_STATES:
            raise ValueError(f"--state {state!r} is no state; allowed: {', '.join(OUTBOX_STATES)}")
        ledger = _installation(context).ledger
        found = ledger.outbox(states=[state]) if state else ledger.unsent()
        shown = ("key", "state", "destination", "attempts", "reason", "run_id", "handoff_id")  # payloads name people
        rows = [{name: getattr(row, name) for name in shown} for row in found]
        if as_json:
            for row in rows:
                typer.echo(json.dumps(row))
        else:
            out.print(screen.outbox(rows))


@outbox_app.command("retry")
def outbox_retry(
    context: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(help="As `onetouch outbox` names them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: Json = False,
) -> None:
    """Lay dead letters out again: the next run sends them, once what refused them is mended."""
    with _one_line_errors():
        if bool(keys) == every:
            raise ValueError("outbox retry: give the keys of dead letters, or --all")
        ledger = _installation(context).ledger
        dead = {row.key for row in ledger.outbox(states=["failed"])}
        if unknown := sorted(set(keys or ()) - dead):
            raise ValueError(f"outbox retry: {', '.join(unknown)}: no dead letter; onetouch outbox lists them")
        again = ledger.retry(sorted(keys or dead))
        typer.echo(json.dumps({"retried": again})) if as_json else out.print(f"{again:,} to be sent by the next run")


@app.command()
def reconcile(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and say, mend nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Compare what the ledger says was done with what the CRM holds; mend what can be, list what cannot."""
    from onetouch import stages

    now = datetime.now(UTC)
    with _one_line_errors():
        workspace = _installation(context)
        wrong = None
        with _progress(quiet=as_json) as step:
            step("reconcile")
            try:
                found = stages.reconcile(workspace, now.replace(microsecond=0), now, dry_run=dry_run)
            except (stages.DeliveryFailed, stages.Stopped) as error:
                found, wrong = error.summary, str(error)
        typer.echo(json.dumps(found)) if as_json else _show_counts(found)
        if wrong:
            _fail(wrong)


@app.command()
def forget(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="user or account")],
    id: Annotated[str, typer.Argument(help="Its id, as the product knows it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Without it nothing is erased.")] = False,
    as_json: Json = False,
) -> None:
    """Erase what lake and ledger hold of a user or an account, for good; what the CRM holds is the CRM's."""
    with _one_line_errors():
        if kind not in ("user", "account"):
            raise ValueError(f"forget: {kind!r} can't be forgotten; give user or account, then the id")
        if not yes:
            raise ValueError(f"forget: this erases the {kind} for good; say so with --yes")
        from onetouch import screen
        from onetouch.forget import forget as erase

        found = erase(_installation(context), cast("Literal['user', 'account']", kind), id, datetime.now(UTC))
        typer.echo(json.dumps(found)) if as_json else out.print(screen.erased(found))
        if found["found"]:
            _fail(f"something of the {kind} is left in {len(found['found'])} places; let runs end, then do it again")


@crm_app.command("check")
def crm_check(
    context: typer.Context,
    policy: PolicyFile = None,
    create: Annotated[bool, typer.Option("--create", help="Make what is missing (HubSpot only).")] = False,
    as_json: Json = False,
) -> None:
    """Whether the CRM can be reached and has our fields, writable; names each that it has not."""
    from onetouch import stages

    with _one_line_errors():
        workspace = _workspace(context, policy)
        crm = stages.crm_of(workspace, workspace.policy)
        made: list[str] = []
        if create:
            if (creates := getattr(crm, "create_fields", None)) is None:
                raise ValueError(f"--create: {crm.name}'s fields are deployed, see include/salesforce/README.md")
            made = creates()
        crm.check_fields()
        if as_json:
            typer.echo(json.dumps({"crm": crm.name, "created": made}))
        else:
            out.print(f"{crm.name}: reached, every field is there" + f"; created {', '.join(made)}" * bool(made))


@policy_app.command("check")
def policy_check(
    files: list[Path],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check policy files: what is not allowed, what can never happen. Exit 1 when one cannot be used."""
    from onetouch.policy import PolicyError, read_policy
    from onetouch.policy.review import former_names, review
    from onetouch.sources import check_sources

    problems: list[str] = []
    warnings: list[str] = []
    for file in files:
        try:
            checked = read_policy(file)
            check_sources(checked, file)
        except PolicyError as error:
            problems += str(error).splitlines()
            continue
        found = [*review(checked), *former_names(file)]
        errors = [f for f in found if strict or f.severity == "error"]
        problems += [f"{file}: {f}" for f in errors]
        warnings += [f"{file}: {f}" for f in found if f not in errors]
        if not errors and not as_json:
            out.print(f"{file}: good; version {checked.version}", highlight=False)
    if as_json:
        typer.echo(json.dumps({"good": not problems, "problems": problems, "warnings": warnings}))
    elif warnings:
        err.print(Text("\n".join(f"warning: {line}" for line in warnings), style="yellow"), soft_wrap=True)
    if problems:
        _fail("\n".join(problems))


@policy_app.command("test")
def policy_test(
    files: list[Path],
    policy: PolicyFile = None,
    as_json: Json = False,
) -> None:
    """Play scenario files under a policy; exit 1 when one comes out otherwise than it says."""
    from onetouch import experiments, screen
    from onetouch.policy import read_policy

    with _one_line_errors():
        under = read_policy(policy or os.environ.get("ONETOUCH_POLICY") or None)
        results = experiments.run_scenarios(*files, policy=under)
        failed = sum(not result.passed for result in results)
        if as_json:
            typer.echo(json.dumps([result.record() for result in results]))
        else:
            out.print(screen.scenarios(results))
        if failed:
            _fail(f"{failed} of {len(results)} scenarios come out otherwise than they say")


@policy_app.command("diff")
def policy_diff(
    context: typer.Context,
    old: Annotated[Path, typer.Argument(help="The policy as it is.")],
    new: Annotated[Path, typer.Argument(help="The policy as it would be.")],
    run: RunId = None,
    as_json: Json = False,
) -> None:
    """What another policy would have changed in the last run: accounts, tasks of each rep. Nothing is written."""
    from onetouch import audit, experiments, screen
    from onetouch.policy import read_policy

    with _one_line_errors():
        workspace = _installation(context)
        of = audit.run_of(workspace.lake, workspace.ledger, run)
        found = experiments.compare(workspace.lake, workspace.ledger, read_policy(old), read_policy(new), of)
        typer.echo(json.dumps(found.record())) if as_json else out.print(screen.difference(found))


@app.command()
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 8765,
    exports: Annotated[Path | None, typer.Option(help="Folder the Amplitude stand-in answers from.")] = None,
) -> None:
    """Serve loopback stand-ins for Salesforce, HubSpot, Slack and Amplitude until interrupted."""
    from onetouch.sandbox import serve

    with _one_line_errors():
        serve(context.obj / "sandbox", port, exports)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write exports/, crm.json and truth/.")],
    until: AsOf = None,
    days: Annotated[int, typer.Option(min=1, help="How many days of life.")] = 35,
    accounts: Annotated[int, typer.Option(min=1)] = 360,
    seed: Annotated[int, typer.Option()] = 7,
    as_json: Json = False,
) -> None:
    """Let a simulated company live, and write its Amplitude answers and CRM records."""
    from onetouch import simulation

    with _one_line_errors():
        end = _moment(until, datetime.now(UTC))
        with _progress(quiet=as_json) as step:
            step("simulate")
            summary = simulation.simulate(
                folder, seed=seed, start=end - timedelta(days=days), until=end, accounts=accounts
            )
        typer.echo(json.dumps(summary, default=str) if as_json else f"{folder}: {summary}")


@app.command()
def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running and print addresses.")] = False,
    as_json: Json = False,
) -> None:
    """The main job on a simulated company: a real Airflow, tasks in a CRM, a report in Slack."""
    from onetouch import demo as demonstration

    with _one_line_errors():
        summary = demonstration.run(context.obj, now=datetime.now(UTC), keep=keep, console=err if as_json else out)
        if as_json:
            typer.echo(json.dumps(summary))


def _show_counts(found: dict[str, Any]) -> None:
    """One line a figure; of a list its items, one a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in found.items():
        lines = value if isinstance(value, list) else [value]
        for line in lines or ["none"]:
            shown = line if not isinstance(line, dict) else ": ".join(str(part) for part in line.values())
            table.add_row(name.replace("_", " "), Text("none" if shown is None else str(shown)))
    out.print(table)


def _workspace(context: typer.Context, policy: Path | None = None, **options: Any) -> Workspace:
    from onetouch.workspace import open_workspace

    return open_workspace(context.obj, policy, **options)


def _installation(context: typer.Context) -> Workspace:
    """What is there already: a mistyped --home is an error, not an empty installation."""
    return _workspace(context, begin=False)


def _moment(text: str | None, now: datetime) -> datetime:
    """An ISO moment with zone; whole seconds. Raises ValueError naming the fix."""
    if text is None:
        return now.replace(microsecond=0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"as_of: {text!r} is not a moment; write it as 2025-01-01T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"as_of: {text!r} has no time zone; write it as {moment.isoformat()}Z for UTC")
    return moment.astimezone(UTC).replace(microsecond=0)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Any]:
    """Gives a function to call with the name of each step as it starts."""
    if quiet:
        yield lambda name: None
        return
    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        current: list[Any] = []

        def step(name: str) -> None:
            for task in current:
                progress.update(task, completed=1, total=1)
                progress.stop_task(task)
            current.clear()
            current.append(progress.add_task(name, total=None))

        yield step
        for task in current:
            progress.update(task, completed=1, total=1)


def _show_accounting(result: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    rows = result["rows"]
    if rows:
        refused = ", ".join(f"{reason} {n:,}" for reason, n in rows["quarantined"].items()) or "none"
        table.add_row("rows", f"{rows['in']:,} in = {rows['kept']:,} kept + {rows['duplicates']:,} duplicates")
        table.add_row("quarantined", refused)
    if result["decisions"]:
        table.add_row("accounts", f"{result['accounts']:,}, each with one decision")
        for action, n in sorted(result["decisions"].items(), key=lambda item: -item[1]):
            table.add_row(f"  {action}", f"{n:,}")
    if result["delivered"] is not None:
        table.add_row("delivered", f"{result['delivered']:,} of {result['to_send']:,} decisions to send")
        for reason, n in (result["withheld"] or {}).items():
            hint = " (a person's yes: --approve)" if reason == "not approved" else ""
            table.add_row("  withheld", Text(f"{n:,} × {reason}{hint}"))
        for failure in result["failed"] or []:
            table.add_row("  failed", Text(f"{failure['account_id']}: {failure['reason']}"))
        if result["deferred"]:
            table.add_row("  deferred", f"{result['deferred']:,} of the failed: the next run tries again")
    if result["held"]:
        table.add_row("held", Text(f"{result['held']}; open tasks to be closed: {result['to_withdraw'] or 0:,}"))
    out.print(table)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What a person can mend is one line; the rest goes to the log with -v."""
    from requests import RequestException
    from slack_sdk.errors import SlackClientError
    from sqlalchemy.exc import SQLAlchemyError

    from onetouch.ledger import LedgerError

    try:
        yield
    except typer.Exit:  # a RuntimeError, too, and said already
        raise
    except BrokenPipeError:  # who reads has seen enough; nothing is left to flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (
        ValueError, OSError, RuntimeError, RequestException, SlackClientError, SQLAlchemyError, LedgerError,
    ) as error:  # fmt: skip
        _fail_of(error)
    except _crm_errors() as error:
        _fail_of(error)


def _crm_errors() -> tuple[type[Exception], ...]:
    """Looked up only when something else has gone wrong: its room takes seconds to import."""
    from onetouch.crm import CrmError
    from onetouch.delivery.breaker import Stopped

    return CrmError, Stopped


def _fail_of(error: Exception) -> NoReturn:
    logging.getLogger(__name__).info("failed", exc_info=True)
    _fail(str(error) or type(error).__name__)


def _fail(message: str) -> NoReturn:
    err.print(Text(f"onetouch: {message}", style="red"), soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
