"""The common part of all commands: shared options, opening an installation, output, and errors."""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import RenderableType
from rich.text import Text

from onetouch.cli.terminal import console

if TYPE_CHECKING:
    from onetouch.ledger import Ledger
    from onetouch.workspace import Workspace

out = console()
err = console(stderr=True)

AsOf = Annotated[str | None, typer.Option(help="The moment to decide for, ISO 8601 with zone. Default: now.")]
RunId = Annotated[str | None, typer.Option(help="Of this run. Default: the last.")]

_ANYWHERE = "Options of every command, before or after its name"


def _anywhere(*names: str, **options: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_ANYWHERE, show_default=False, **options)


_Home = Annotated[
    Path | None, _anywhere("--home", help="Folder of lake and ledger. Default: $ONETOUCH_HOME, else .onetouch.")
]
_Policy = Annotated[
    Path | None, _anywhere("--policy", help="What differs from the default policy. Default: $ONETOUCH_POLICY.")
]
_Json = Annotated[bool, _anywhere("--json", help="Machine-readable output.")]


@dataclass(frozen=True)
class Call:
    """One call of the command line, with the values of the options that every command has.

    `home`, `policy`: None if the option was not given; `open_workspace` then reads the environment.
    """

    context: typer.Context
    home: Path | None = None
    policy: Path | None = None
    json: bool = False

    @property
    def root(self) -> Path:
        """The folder of the installation, which need not exist."""
        from onetouch.workspace import home_of

        return home_of(self.home)

    @property
    def width(self) -> int:
        """The width of the terminal in columns."""
        return out.width

    def workspace(self, **options: Any) -> Workspace:
        """The installation, which is created if it does not exist; `options` are those of `open_workspace`."""
        from onetouch.workspace import open_workspace

        return open_workspace(self.home, self.policy, **options)

    def installation(self) -> Workspace:
        """The existing installation: a mistyped --home is an error and does not create an empty installation."""
        return self.workspace(begin=False)

    def ledger(self) -> Ledger:
        """Only the ledger of the existing installation, for commands that need no policy."""
        from onetouch.workspace import open_ledger

        return open_ledger(self.home, begin=False)

    def answer(self, record: Any, shown: Callable[[], RenderableType]) -> None:
        """Prints the command's result: `record` as one JSON value, or the output of `shown` for a person."""
        typer.echo(json.dumps(record)) if self.json else out.print(shown())

    def rows(self, records: list[dict[str, Any]], shown: Callable[[], RenderableType]) -> None:
        """Prints a result of many rows: one JSON object per line, or the output of `shown` for a person."""
        if not self.json:
            out.print(shown())
            return
        for record in records:
            typer.echo(json.dumps(record))


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command (or the callback of a group) the options of every command, and one-line errors.

    The command is written as `def command(call: Call, its own options)`. An option given before and after the
    command's name counts once; with different values it is an error that names both.
    """

    def called(
        context: typer.Context, home: _Home = None, policy: _Policy = None, as_json: _Json = False, **own: Any
    ) -> None:
        with one_line_errors():
            before = context.obj or Call(context)
            context.obj = Call(
                context,
                _one_of("--home", before.home, home),
                _one_of("--policy", before.policy, policy),
                before.json or as_json,
            )
            command(context.obj, **own)

    context, *anywhere, _ = inspect.signature(called, eval_str=True).parameters.values()
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    signature = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (context, *own, *anywhere)]
    called.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]  # what typer reads
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called


def _one_of(option: str, before: Path | None, after: Path | None) -> Path | None:
    """The option's value, given before or after the command. Raises ValueError for two different values."""
    if before is not None and after is not None and before.absolute() != after.absolute():
        raise ValueError(f"{option}: is {before} before the command and {after} after it; give one of them")
    return before if after is None else after


def moment(text: str | None, now: datetime) -> datetime:
    """The moment of an ISO 8601 text with zone (None: `now`), in whole seconds. Raises ValueError naming the fix."""
    if text is None:
        return now.replace(microsecond=0)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"as_of: {text!r} is not a moment; write it as 2025-01-01T00:00:00Z") from None
    if given.tzinfo is None:
        raise ValueError(f"as_of: {text!r} has no time zone; write it as {given.isoformat()}Z for UTC")
    return given.astimezone(UTC).replace(microsecond=0)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows progress; gives a function that is called with the name of each step when the step starts."""
    if quiet:
        yield lambda name: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err) as bar:
        current: list[Any] = []

        def step(name: str) -> None:
            for task in current:
                bar.update(task, completed=1, total=1)
                bar.stop_task(task)
            current.clear()
            current.append(bar.add_task(name, total=None))

        yield step
        for task in current:
            bar.update(task, completed=1, total=1)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors that a user can fix into one line and exit 1; with -v the log has the traceback."""
    try:
        yield
    except typer.Exit:  # is a RuntimeError as well, and its message was already printed
        raise
    except BrokenPipeError:  # the reader closed the pipe; redirect stdout so that the flush at exit does not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (ValueError, OSError, RuntimeError) as error:
        _fail_of(error)
    except _errors_of_rooms() as error:
        _fail_of(error)


def _errors_of_rooms() -> tuple[type[Exception], ...]:
    """Errors of packages whose import takes seconds, so they are imported only after an error occurred."""
    from slack_sdk.errors import SlackClientError
    from sqlalchemy.exc import SQLAlchemyError

    from onetouch.crm import CrmError
    from onetouch.ledger import LedgerError
    from onetouch.stop import Stopped

    return CrmError, LedgerError, SlackClientError, SQLAlchemyError, Stopped


def _fail_of(error: Exception) -> NoReturn:
    logging.getLogger(__name__).info("failed", exc_info=True)
    fail(str(error) or type(error).__name__)


def fail(message: str) -> NoReturn:
    """Ends the command with one clear line and exit 1."""
    err.print(Text(f"onetouch: {message}", style="red"), soft_wrap=True)
    raise typer.Exit(1)
