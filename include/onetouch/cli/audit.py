"""The auditor: `audit --crm` judges the CRM by the promises of the delivery, `audit --export` writes what it needs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from onetouch.cli.call import Call, fail, moment, shared

app = typer.Typer()


@app.command()
@shared
def audit(
    call: Call,
    crm: Annotated[
        bool, typer.Option("--crm", help="Judge the tasks in the CRM; exits with 1 if one is wrong.")
    ] = False,
    export: Annotated[Path | None, typer.Option(help="Write what the ledger says into this file.")] = None,
    told: Annotated[
        Path | None, typer.Option("--ledger", help="With --crm: judge by this export. Default: our own ledger.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="With --crm: from this moment on. Default: 90 days ago.")] = None,
) -> None:
    """Whether every task in the CRM is the only one of its handoff, with context, and in nobody's way."""
    import json

    from onetouch import audit as auditor
    from onetouch import stages

    if crm == (export is not None):
        raise ValueError("audit: give --crm to judge the CRM, or --export FILE to write what the ledger says")
    if export is not None:
        lines = [json.dumps(line) for line in auditor.export(call.ledger())]
        export.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        call.answer({"lines": len(lines)}, lambda: f"{export}: {len(lines):,} lines")
        return
    now = datetime.now(UTC).replace(microsecond=0)
    workspace = call.installation() if told is None else call.workspace()
    written = (json.dumps(line) for line in auditor.export(workspace.ledger)) if told is None else _lines(told)
    client = stages.crm_of(workspace, workspace.policy)
    judged = auditor.judge(
        client, workspace.policy, auditor.read_export(written), moment(since, now - auditor.LOOKED_BACK)
    )
    words = auditor.in_words(judged)
    named = "".join(f"\n{one['promise'].replace('_', ' ')}: {one['key']}: {one['why']}" for one in judged["wrong"])
    call.answer(judged, lambda: words + named)
    if judged["wrong"]:
        fail(f"audit: {words}")


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()
