"""`onetouch …`: the pipeline's stages and what they left behind, without a scheduler.

This is an edge: it reads the clock and the environment, and hands both to the library as arguments. A file holds a
group of commands; they import what they need when they are called, so that none waits for another's libraries.
"""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from onetouch.cli import control, crm, decisions, forget, outbox, policy, run, sandbox
from onetouch.cli.call import Call, shared

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Product usage becomes the few sales conversations worth having; everyone else is left alone.",
)


@app.callback()
@shared
def main(
    call: Call,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log.")] = False,
) -> None:
    """Options of every command."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s %(message)s")


for commands in (run, decisions, control, outbox, forget, crm, policy, sandbox):
    app.add_typer(commands.app)
