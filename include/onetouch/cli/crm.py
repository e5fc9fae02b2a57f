"""The command that checks whether the CRM is set up for the integration: `crm check`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from onetouch.cli.call import Call, fail, shared

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
    """What would refuse a task: our fields, and the CRM's own rules. Nothing stays in the CRM."""
    from onetouch import stages

    workspace = call.workspace()
    crm = stages.crm_of(workspace, workspace.policy)
    made = crm.create_fields() if create else []
    crm.check_fields()
    findings = crm.rehearse(workspace.policy, datetime.now(UTC).date())
    told = f"{crm.name}: reached, every field is there" + f"; created {', '.join(made)}" * bool(made)
    call.answer(
        {"crm": crm.name, "created": made, "findings": [asdict(finding) for finding in findings]},
        lambda: "\n".join([told, *(finding.line for finding in findings)]),
    )
    if findings:
        fail(f"{crm.name}: {len(findings)} rules would refuse what is written; each is named with who can mend it")
