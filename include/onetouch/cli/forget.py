"""The command that erases a person or a company permanently: `forget`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, cast

import typer

from onetouch.cli.call import Call, fail, shared

app = typer.Typer()


@app.command()
@shared
def forget(
    call: Call,
    kind: Annotated[str, typer.Argument(help="user or account")],
    id: Annotated[str, typer.Argument(help="Its id, as the product knows it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Without it nothing is erased.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show what would be erased, and erase nothing.")] = False,
) -> None:
    """Erase what lake and ledger hold of a user or an account, for good; what the CRM holds is the CRM's."""
    if kind not in ("user", "account"):
        raise ValueError(f"forget: {kind!r} can't be forgotten; give user or account, then the id")
    if yes and preview:
        raise ValueError("forget: give --preview to look, or --yes to erase; not both")
    if not yes and not preview:
        raise ValueError(f"forget: this erases the {kind} for good; say so with --yes, or look first with --preview")
    from onetouch.cli import screen
    from onetouch.forget import forget as erase
    from onetouch.forget import preview as look

    if preview:
        would = look(call.installation(), cast("Literal['user', 'account']", kind), id)
        call.answer(would, lambda: screen.would_erase(would))
        return
    found = erase(call.installation(), cast("Literal['user', 'account']", kind), id, datetime.now(UTC))
    call.answer(found, lambda: screen.erased(found))
    if found["found"]:
        fail(f"something of the {kind} is left in {len(found['found'])} places; let runs end, then do it again")
