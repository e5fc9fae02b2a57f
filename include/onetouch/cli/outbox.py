"""Commands on deliveries: `outbox`, `outbox retry`, `reconcile`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from onetouch.cli.call import Call, fail, progress, shared

app = typer.Typer()
outbox_app = typer.Typer(invoke_without_command=True)
app.add_typer(outbox_app, name="outbox", help="What is to be written outside, and what was refused.")


@outbox_app.callback()
@shared
def outbox(
    call: Call,
    state: Annotated[str | None, typer.Option(help="Only this state. Default: what is still to be sent.")] = None,
) -> None:
    """What was not sent: dead letters with the reason of their refusal, and what waits for the next run."""
    if call.context.invoked_subcommand is not None:
        return
    from onetouch import audit
    from onetouch.cli import screen
    from onetouch.ledger import OUTBOX_STATES

    if state is not None and state not in OUTBOX_STATES:
        raise ValueError(f"--state {state!r} is no state; allowed: {', '.join(OUTBOX_STATES)}")
    rows = audit.unsent(call.ledger(), state)
    call.rows(rows, lambda: screen.outbox(rows))


@outbox_app.command()
@shared
def retry(
    call: Call,
    keys: Annotated[list[str] | None, typer.Argument(help="As `onetouch outbox` names them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Put dead letters back into the outbox, so that the next run sends them; first fix what they were refused for.

    A task that was refused is not sent as it was: the next run decides on its account anew, and writes it anew.
    """
    if bool(keys) == every:
        raise ValueError("outbox retry: give the keys of dead letters, or --all")
    ledger = call.ledger()
    dead = {row.key for row in ledger.outbox(states=["failed"])}
    if unknown := sorted(set(keys or ()) - dead):
        raise ValueError(f"outbox retry: {', '.join(unknown)}: no dead letter; onetouch outbox lists them")
    again = ledger.retry(sorted(keys or dead))
    call.answer({"retried": again}, lambda: f"{again:,} to be sent, or decided on anew, by the next run")


@app.command()
@shared
def reconcile(
    call: Call, dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and say, mend nothing.")] = False
) -> None:
    """Compare what the ledger says was done with what the CRM holds; mend what can be, list what cannot."""
    from onetouch import stages
    from onetouch.cli import screen

    now = datetime.now(UTC)
    workspace = call.installation()
    wrong = None
    with progress(quiet=call.json) as step:
        step("reconcile")
        try:
            found = stages.reconcile(workspace, now.replace(microsecond=0), now, dry_run=dry_run)
        except stages.STOPS as error:
            found, wrong = error.summary, str(error)
    call.answer(found, lambda: screen.counts(found))
    if wrong:
        fail(wrong)
