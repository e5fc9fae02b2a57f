"""`onetouch …`: runs the pipeline's stages and shows their results, without a scheduler.

The command line reads the clock and the environment, and passes both to the library as arguments. Each file has a group
of commands. A command imports its dependencies when it is called, so no command waits for another's dependencies.
"""

from __future__ import annotations

import atexit
import gc
import logging
import sys
from typing import Annotated, Any

import typer

from onetouch.cli import control, crm, decisions, forget, outbox, policy, run, sandbox
from onetouch.cli.call import Call, shared

__all__ = ["app"]


class _Program(typer.Typer):
    """The command line as a short-lived process."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        # Without these two calls, garbage collection among the objects of imported modules takes a third of the CPU
        # time of a short command: after every 700 new objects during the imports, and once more when Python exits.
        gc.set_threshold(10_000)
        atexit.register(_leave_as_it_is)
        return super().__call__(*args, **options)


def _leave_as_it_is() -> None:
    """Spares Python the last collection, unless DuckDB is there, which would report everything as leaked."""
    if "duckdb" not in sys.modules:
        gc.freeze()


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
