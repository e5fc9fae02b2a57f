"""`onetouch …`: the pipeline's stages and what they left behind, without a scheduler.

This is an edge: it reads the clock and the environment, and hands both to the library as arguments. A file holds a
group of commands; they import what they need when they are called, so that none waits for another's libraries.
"""

from __future__ import annotations

import atexit
import gc
import logging
from typing import Annotated, Any

import typer

from onetouch.cli import control, crm, decisions, forget, outbox, policy, run, sandbox
from onetouch.cli.call import Call, shared

__all__ = ["app"]


class _Program(typer.Typer):
    """The command line as a process of its own, which ends soon."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        # A third of the CPU time of a short command went into looking for garbage among what imported modules hold:
        # at every 700 new ones while they are imported, and once more among all of them when Python ends.
        gc.set_threshold(10_000)
        atexit.register(gc.freeze)
        return super().__call__(*args, **options)


app = _Program(
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
