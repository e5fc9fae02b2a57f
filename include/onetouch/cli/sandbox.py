"""Commands for trying everything without real systems: `sandbox`, `simulate`, `demo`.

`sandbox` and `demo` need the package's extra `sandbox`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from onetouch.cli.call import AsOf, Call, err, moment, out, progress, shared

app = typer.Typer()

EXTRA = ("jinja2", "python_multipart", "starlette", "uvicorn")
"""The modules that the extra `sandbox` of pyproject.toml installs, by their import names."""


@app.command()
@shared
def sandbox(
    call: Call,
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 8765,
    exports: Annotated[Path | None, typer.Option(help="Folder the Amplitude stand-in answers from.")] = None,
) -> None:
    """Serve loopback stand-ins for Salesforce, HubSpot, Slack and Amplitude until interrupted."""
    require_extra()
    from onetouch.sandbox import serve

    serve(call.root / "sandbox", port, exports)


@app.command()
@shared
def simulate(
    call: Call,
    folder: Annotated[Path, typer.Argument(help="Where to write exports/, crm.json and truth/.")],
    until: AsOf = None,
    days: Annotated[int, typer.Option(min=1, help="How many days of life.")] = 35,
    accounts: Annotated[int, typer.Option(min=1)] = 360,
    seed: Annotated[int, typer.Option()] = 7,
) -> None:
    """Simulate a company, and write its Amplitude exports and CRM records."""
    from onetouch import simulation

    end = moment(until, datetime.now(UTC))
    with progress(quiet=call.json) as step:
        step("simulate")
        summary = simulation.simulate(folder, seed=seed, start=end - timedelta(days=days), until=end, accounts=accounts)
    typer.echo(json.dumps(summary, default=str) if call.json else f"{folder}: {summary}")


@app.command()
@shared
def demo(
    call: Call,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running and print addresses.")] = False,
) -> None:
    """The main job on a simulated company: a real Airflow, tasks in a CRM, a report in Slack."""
    require_extra()
    from onetouch import demo as demonstration

    summary = demonstration.run(call.root, now=datetime.now(UTC), keep=keep, console=err if call.json else out)
    if call.json:
        typer.echo(json.dumps(summary))


def require_extra() -> None:
    """Raises ValueError, naming the missing modules of the extra and how to install them."""
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise ValueError(f"{', '.join(missing)}: not installed; run pip install 'onetouch[sandbox]'")
