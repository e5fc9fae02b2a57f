"""`onetouch …`: runs the pipeline's stages and shows their results, without a scheduler.

The command line reads the clock and the environment, and passes both to the library as arguments. Each file has a group
of commands. A command imports its dependencies when it is called, so no command waits for another's dependencies.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from onetouch.cli import audit, control, crm, decisions, forget, outbox, policy, prune, run, sandbox, slack
from onetouch.cli.call import Call, shared

__all__ = ["app"]


class _Program(typer.Typer):
    """The command line as a short-lived process, which ends with the command."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not options.get("standalone_mode", True):  # a command within another program, which goes on after it
            return super().__call__(*args, **options)
        # Otherwise garbage collection among the objects of imported modules, after every 700 new objects, takes a good
        # part of the CPU time of a short command.
        gc.set_threshold(10_000)
        try:
            super().__call__(*args, **options)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            sys.excepthook(*sys.exc_info())
            code = 1
        return _end(code)


def _end(code: int) -> NoReturn:
    """Ends the process without taking the interpreter down first.

    Threads of Arrow and DuckDB may still be about to let go of a Python object, such as a file they have read. While
    the interpreter is being taken down they cannot, and the process would abort (exit code 134) after it has done all
    it had to do. So what is to be done at the end is done here, and then all threads end at once.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader has closed the pipe, or the stream is closed
            stream.flush()
    os._exit(code)


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


for commands in (run, decisions, control, outbox, forget, prune, crm, audit, slack, policy, sandbox):
    app.add_typer(commands.app)
