"""What every command shares: the options that may stand anywhere, what it opens, how it answers and how it fails."""

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
    """One call of the command line: what the options of every command say.

    `home`, `policy`: None where neither an option was given; `open_workspace` then asks the environment.
    """

    context: typer.Context
    home: Path | None = None
    policy: Path | None = None
    json: bool = False

    @property
    def root(self) -> Path:
        """The folder of the installation, whether it is there or not."""
        from onetouch.workspace import home_of

        return home_of(self.home)

    @property
    def width(self) -> int:
        """Columns of the screen."""
        return out.width

    def workspace(self, **options: Any) -> Workspace:
        """The installation, begun where there is none yet; `options` are those of `open_workspace`."""
        from onetouch.workspace import open_workspace

        return open_workspace(self.home, self.policy, **options)

    def installation(self) -> Workspace:
        """The installation that is there already: a mistyped --home is an error, not an empty installation."""
        return self.workspace(begin=False)

    def ledger(self) -> Ledger:
        """The ledger alone of the installation that is there already: what is asked of it needs no policy."""
        from onetouch.workspace import open_ledger

        return open_ledger(self.home, begin=False)

    def answer(self, record: Any, shown: Callable[[], RenderableType]) -> None:
        """The command's result: `record` as one JSON value, or what `shown` makes of it for a person."""
        typer.echo(json.dumps(record)) if self.json else out.print(shown())

    def rows(self, records: list[dict[str, Any]], shown: Callable[[], RenderableType]) -> None:
        """The command's result, many rows of it: one JSON object a line, or what `shown` makes of them."""
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
    """The option's value, wherever it stood. Raises ValueError when it stood twice and differs."""
    if before is not None and after is not None and before.absolute() != after.absolute():
        raise ValueError(f"{option}: is {before} before the command and {after} after it; give one of them")
    return before if after is None else after


def moment(text: str | None, now: datetime) -> datetime:
    """An ISO moment with zone; whole seconds. Raises ValueError naming the fix."""
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
    """Gives a function to call with the name of each step as it starts."""
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
    """What a person can mend is one line and exit 1; the rest goes to the log with -v."""
    try:
        yield
    except typer.Exit:  # a RuntimeError, too, and said already
        raise
    except BrokenPipeError:  # who reads has seen enough; nothing is left to flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (ValueError, OSError, RuntimeError) as error:
        _fail_of(error)
    except _errors_of_rooms() as error:
        _fail_of(error)


def _errors_of_rooms() -> tuple[type[Exception], ...]:
    """Looked up only when something has gone wrong: what raises them takes seconds to import."""
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
