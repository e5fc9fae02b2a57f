"""Commands that show and control sending: `status`, `stop`, `resume`. They need only the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from onetouch.cli.call import Call, fail, shared

app = typer.Typer()


@app.command()
@shared
def status(call: Call) -> None:
    """Whether anything is stopped, what waits or was refused, and what became of the last runs."""
    from onetouch import audit
    from onetouch.cli import screen

    found = audit.status(call.ledger())
    call.answer(found, lambda: screen.status(found))


@app.command()
@shared
def stop(call: Call, reason: Annotated[list[str], typer.Argument(help="Why, for those who find it.")]) -> None:
    """Write nothing outside any more, whatever runs, until `onetouch resume`: no task, no field, no message."""
    ledger = call.ledger()
    begun = ledger.stop(" ".join(reason), datetime.now(UTC))
    stopped = ledger.stopped()
    said = "stopped" if begun else "stopped already, and your reason is not kept beside the first"
    told = Text(f"{said}: {stopped}\nnothing is written outside until onetouch resume", style="red")
    call.answer({"stopped": stopped, "begun": begun}, lambda: told)


@app.command()
@shared
def resume(call: Call) -> None:
    """Lift the stop. What waited is decided or sent by the next run."""
    ledger = call.ledger()
    stopped = ledger.stopped()
    if not ledger.resume(datetime.now(UTC)):
        fail("resume: nothing was stopped here; Airflow's own switch is its Variable onetouch_stop")
    told = Text(f"resumed; it was stopped: {stopped}\nthe next run decides and sends", style="green")
    call.answer({"stopped": None, "lifted": stopped}, lambda: told)
