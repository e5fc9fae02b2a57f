"""`onetouch …`: the pipeline's stages and what they left behind, without a scheduler.

This is an edge: it reads the clock and the environment, and hands both to the library as arguments.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Product usage becomes the few sales conversations worth having; everyone else is left alone.",
)
policy_app = typer.Typer(no_args_is_help=True, help="The rules of engagement.")
app.add_typer(policy_app, name="policy")

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
AsOf = Annotated[str | None, typer.Option(help="The moment to decide for, ISO 8601 with zone. Default: now.")]
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute everything, send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run every stage in this process and account for every row, account and decision."""
    from onetouch import stages

    now = datetime.now(UTC)
    with _one_line_errors():
        moment = _moment(as_of, now)
        for path, name in ((exports, "--exports"), (accounts, "--accounts")):
            if path is not None and not path.exists():
                raise ValueError(f"{name}: {path} does not exist; give an existing path")
        workspace = _workspace(context, policy, exports=exports, accounts=accounts)
        workspace = stages.with_sources(workspace, source)
        run_id = stages.begin(workspace, moment, now, dry_run=dry_run)
        stopped = None
        with _progress(quiet=as_json) as step:
            try:
                stages.run_all(workspace, moment, now, dry_run=dry_run, started=step)
            except (stages.ChecksFailed, stages.DeliveryFailed) as error:
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
    as_json: Json = False,
) -> None:
    """The decisions of the last run, best score first."""
    from onetouch import stages

    with _one_line_errors():
        rows = stages.decisions_of(_workspace(context), None, action=action)
        if as_json:
            for row in rows:
                typer.echo(json.dumps(row))
            return
        table = Table("account", "score", "tier", "action", "rule", "owner", "why", box=None, header_style="bold")
        for row in rows:
            why = ", ".join(f"{r['signal']} +{r['points']:g}" for r in row["reasons"][:3])
            table.add_row(
                Text(row["account_id"]),
                f"{row['score']:g}",
                row["tier"],
                row["action"],
                row["rule"],
                Text(row["owner"] or "–"),
                why,
            )
        out.print(table)


@app.command()
def explain(context: typer.Context, account: str, as_json: Json = False) -> None:
    """Why an account got its decision in the last run, and what would change it."""
    from onetouch import stages

    with _one_line_errors():
        found = stages.explain(_workspace(context), account)
        if as_json:
            typer.echo(json.dumps(found))
            return
        body = Text()
        decision = found["decision"]
        body.append(f"{decision['action']}", style="bold")
        body.append(f"  by rule {decision['rule']}, as of {decision['as_of']}\n")
        body.append(f"{decision['would_change']}\n\n" if decision["would_change"] else "\n")
        body.append(f"score {decision['score']:g} · tier {decision['tier']}\n", style="bold")
        widest = max((r["points"] for r in decision["reasons"]), default=1.0)
        for reason in decision["reasons"]:
            bar = "█" * max(1, round(24 * reason["points"] / widest))
            body.append(f"  {reason['signal']:<26}{reason['value']:>10g}  ")
            body.append(bar, style="green")
            body.append(f" {reason['points']:g}\n")
        body.append("\ngates  ", style="bold")
        for gate, passed in found["gates"].items():
            body.append(f"{'✓' if passed else '✗'} {gate}   ", style="green" if passed else "red")
        body.append("\nvalue  ", style="bold")
        body.append(f"{decision['value_band']}, potential ARR ${decision['potential_arr']:,.0f}, ")
        body.append(f"engagement {decision['engagement_band']}, motion {decision['motion']}")
        out.print(Panel(body, title=Text(account), expand=False, padding=(1, 2)))


@policy_app.command("check")
def policy_check(
    files: list[Path],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check policy files: what is not allowed, what can never happen. Exit 1 when one cannot be used."""
    from onetouch.policy import PolicyError, read_policy
    from onetouch.policy.review import review

    problems: list[str] = []
    warnings: list[str] = []
    for file in files:
        try:
            checked = read_policy(file)
        except PolicyError as error:
            problems += str(error).splitlines()
            continue
        found = review(checked)
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


@app.command()
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 8765,
    exports: Annotated[Path | None, typer.Option(help="Folder the Amplitude stand-in answers from.")] = None,
) -> None:
    """Serve loopback stand-ins for Salesforce, Slack and Amplitude until interrupted."""
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


def _workspace(
    context: typer.Context, policy: Path | None = None, exports: Path | None = None, accounts: Path | None = None
) -> Any:
    from onetouch.workspace import open_workspace

    return open_workspace(context.obj, policy, exports=exports, accounts=accounts)


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
            table.add_row("  withheld", f"{n:,} × {reason}")
        for failure in result["failed"] or []:
            table.add_row("  failed", Text(f"{failure['account_id']}: {failure['reason']}"))
    out.print(table)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What a person can mend is one line; the rest goes to the log with -v."""
    from requests import RequestException
    from slack_sdk.errors import SlackClientError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (ValueError, OSError, RuntimeError, RequestException, SlackClientError, SQLAlchemyError) as error:
        logging.getLogger(__name__).info("failed", exc_info=True)
        _fail(str(error) or type(error).__name__)


def _fail(message: str) -> NoReturn:
    err.print(Text(f"onetouch: {message}", style="red"), soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
