"""The command that checks whether the CRM is set up for the integration: `crm check`."""

from __future__ import annotations

from typing import Annotated

import typer

from onetouch.cli.call import Call, shared

app = typer.Typer()
crm_app = typer.Typer(no_args_is_help=True)
app.add_typer(crm_app, name="crm")


@crm_app.callback()
@shared
def crm(call: Call) -> None:
    """The CRM as the integration needs it."""


@crm_app.command()
@shared
def check(
    call: Call,
    create: Annotated[bool, typer.Option("--create", help="Make what is missing, where the CRM lets us.")] = False,
) -> None:
    """Whether the CRM can be reached and has our fields, writable; names each that it has not."""
    from onetouch import stages

    workspace = call.workspace()
    crm = stages.crm_of(workspace, workspace.policy)
    made = crm.create_fields() if create else []
    crm.check_fields()
    told = f"{crm.name}: reached, every field is there" + f"; created {', '.join(made)}" * bool(made)
    call.answer({"crm": crm.name, "created": made}, lambda: told)
