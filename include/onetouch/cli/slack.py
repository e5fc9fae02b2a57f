"""The command that takes the presses of buttons without Airflow: `slack serve`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from onetouch.cli.call import Call, out, shared
from onetouch.cli.sandbox import require_extra

app = typer.Typer()
slack_app = typer.Typer(no_args_is_help=True)
app.add_typer(slack_app, name="slack")


@slack_app.callback()
@shared
def slack(call: Call) -> None:
    """The buttons of alerts."""


@slack_app.command()
@shared
def serve(
    call: Call, port: Annotated[int, typer.Option(help="Port on the loopback interface; 0: any.")] = 8766
) -> None:
    """Take presses of buttons on loopback until interrupted, for trying them; in production Airflow does."""
    require_extra()
    import socket

    import uvicorn

    from onetouch.console import PATH, Presses

    workspace = call.installation()
    listener = socket.create_server(("127.0.0.1", port))
    where = f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    call.answer({"url": where}, lambda: f"presses are taken at {where}")
    out.file.flush()
    app = Presses(lambda: workspace, lambda: datetime.now(UTC))
    uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False)).run([listener])
