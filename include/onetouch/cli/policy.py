"""Commands on policy files: `policy check`, `policy test`, `policy diff`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from onetouch.cli.call import Call, RunId, err, fail, out, shared

app = typer.Typer()
policy_app = typer.Typer(no_args_is_help=True)
app.add_typer(policy_app, name="policy")


@policy_app.callback()
@shared
def policy(call: Call) -> None:
    """The rules of engagement."""


@policy_app.command()
@shared
def check(
    call: Call,
    files: list[Path],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
) -> None:
    """Check policy files: what is not allowed, what can never happen. Exit 1 when one cannot be used."""
    from onetouch.policy import PolicyError, former_names, review_policy
    from onetouch.workspace import usable_policy

    problems: list[str] = []
    warnings: list[str] = []
    for file in files:
        try:
            checked = usable_policy(file)
        except PolicyError as error:
            problems += str(error).splitlines()
            continue
        found = [*review_policy(checked), *former_names(file)]
        errors = [f for f in found if strict or f.severity == "error"]
        problems += [f"{file}: {f}" for f in errors]
        warnings += [f"{file}: {f}" for f in found if f not in errors]
        if not errors and not call.json:
            out.print(f"{file}: good; version {checked.version}", highlight=False)
    if call.json:
        typer.echo(json.dumps({"good": not problems, "problems": problems, "warnings": warnings}))
    elif warnings:
        err.print(Text("\n".join(f"warning: {line}" for line in warnings), style="yellow"), soft_wrap=True)
    if problems:
        fail("\n".join(problems))


@policy_app.command()
@shared
def test(call: Call, files: list[Path]) -> None:
    """Run scenario files under a policy; exit 1 when the outcome of a scenario is not the expected one."""
    from onetouch import experiments
    from onetouch.cli import screen
    from onetouch.workspace import usable_policy

    under = usable_policy(call.policy or os.environ.get("ONETOUCH_POLICY"))
    results = experiments.run_scenarios(*files, policy=under)
    failed = sum(not result.passed for result in results)
    call.answer([result.record() for result in results], lambda: screen.scenarios(results))
    if failed:
        fail(f"{failed} of {len(results)} scenarios come out otherwise than they say")


@policy_app.command()
@shared
def diff(
    call: Call,
    old: Annotated[Path, typer.Argument(help="The policy as it is.")],
    new: Annotated[Path, typer.Argument(help="The policy as it would be.")],
    run: RunId = None,
) -> None:
    """What another policy would have changed in the last run: accounts, tasks of each rep. Nothing is written."""
    from onetouch import audit, experiments
    from onetouch.cli import screen
    from onetouch.workspace import usable_policy

    workspace = call.installation()
    of = audit.run_of(workspace.lake, workspace.ledger, run)
    before, after = usable_policy(old), usable_policy(new)
    found = experiments.compare(workspace.lake, workspace.ledger, before, after, of)
    call.answer(found.record(), lambda: screen.difference(found))
