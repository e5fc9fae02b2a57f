"""The command that deletes what the policy's `retention` no longer keeps: `prune`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from onetouch.cli.call import Call, moment, shared

app = typer.Typer()


@app.command()
@shared
def prune(
    call: Call,
    as_of: Annotated[
        str | None, typer.Option(help="The moment to count back from, ISO 8601 with zone. Default: now.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; say what would be deleted.")] = False,
) -> None:
    """Delete what is older than the policy's `retention` keeps; whatever later runs read stays."""
    from onetouch import stages
    from onetouch.cli import screen

    now = datetime.now(UTC)
    found = stages.prune(call.installation(), moment(as_of, now), now, dry_run=dry_run)
    call.answer(found, lambda: screen.pruned(found))
