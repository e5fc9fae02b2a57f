"""The command that runs the whole pipeline in this process: `run`."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from onetouch.cli.call import AsOf, Call, fail, moment, progress, shared

app = typer.Typer()


@app.command()
@shared
def run(
    call: Call,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources. Default: the policy's.")] = None,
    exports: Annotated[Path | None, typer.Option(help="Folder of the vendor's answers, instead of its API.")] = None,
    accounts: Annotated[Path | None, typer.Option(help="CSV or Parquet of accounts, instead of the CRM.")] = None,
    as_of: AsOf = None,
    shadow: Annotated[Path | None, typer.Option(help="A second policy: what it would do is kept, not done.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute everything, send nothing.")] = False,
    approve: Annotated[bool, typer.Option("--approve", help="Yes to more new tasks than go unasked.")] = False,
) -> None:
    """Run every stage in this process and account for every row, account and decision."""
    from onetouch import audit, stages
    from onetouch.cli import screen
    from onetouch.workspace import usable_policy

    now = datetime.now(UTC)
    at = moment(as_of, now)
    for path, name in ((exports, "--exports"), (accounts, "--accounts")):
        if path is not None and not path.exists():
            raise ValueError(f"{name}: {path} does not exist; give an existing path")
    workspace = call.workspace(exports=exports, accounts=accounts, shadow=shadow)
    if shadow is not None:
        usable_policy(shadow)  # reports an unusable policy before the run instead of after it
    workspace = stages.with_sources(workspace, source)
    run_id = stages.begin(workspace, at, now, dry_run=dry_run)
    stopped = None
    with progress(quiet=call.json) as step:
        try:
            by = f"{getpass.getuser()} (command line)" if approve else None
            stages.run_all(workspace, at, now, dry_run=dry_run, approved_by=by, started=step)
        except stages.STOPS as error:
            stopped = str(error)
    result = audit.accounting(workspace.ledger, run_id) | ({"stopped": stopped} if stopped else {})
    call.answer(result, lambda: screen.accounting(result))
    if stopped:
        fail(stopped)
