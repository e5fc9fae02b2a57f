"""Commands on past decisions and their reasons: `decisions`, `explain`, `assignments`, `replay`, `shadow`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from onetouch.cli.call import Call, RunId, fail, moment, shared

app = typer.Typer()


@app.command()
@shared
def decisions(
    call: Call, action: Annotated[str | None, typer.Option(help="Only this action.")] = None, run: RunId = None
) -> None:
    """The decisions of the last run, best score first; with --json one object a line."""
    from onetouch import audit
    from onetouch.cli import screen

    workspace = call.installation()
    of = audit.run_of(workspace.lake, workspace.ledger, run)
    rows = audit.decision_rows(workspace.lake, of, action=action)
    call.rows(rows, lambda: screen.decisions(rows, of, workspace.policy, call.width))


@app.command()
@shared
def explain(
    call: Call,
    account: Annotated[str, typer.Argument(help="Its id, as `onetouch decisions` shows it, or its name or domain.")],
    run: RunId = None,
    as_of: Annotated[str | None, typer.Option(help="As of this moment: the last run up to it.")] = None,
) -> None:
    """Why an account got its decision: every rule in order, the score, and what would change it."""
    from onetouch import audit
    from onetouch.cli import screen

    workspace = call.installation()
    at = None if as_of is None else moment(as_of, datetime.now(UTC))
    of = audit.run_of(workspace.lake, workspace.ledger, run, at)
    found = audit.explain(workspace.lake, workspace.ledger, of, account)
    call.answer(found.record(), lambda: screen.explanation(found))


@app.command()
@shared
def assignments(call: Call, run: RunId = None) -> None:
    """Who got what in the last run, and why; what waits for whom."""
    from onetouch import audit
    from onetouch.cli import screen

    workspace = call.installation()
    of = audit.run_of(workspace.lake, workspace.ledger, run)
    reps, tasks = (audit.plain(frame) for frame in audit.assigned(workspace.lake, workspace.ledger, of))
    call.answer({"run_id": of.run_id, "reps": reps, "tasks": tasks}, lambda: screen.assignments(reps, tasks))


@app.command()
@shared
def replay(
    call: Call,
    decision: Annotated[str | None, typer.Argument(help="Id of a decision. Without one: give --run.")] = None,
    run: Annotated[str | None, typer.Option(help="Replay this run, whole or only the decision.")] = None,
) -> None:
    """Make past decisions again from what was stored then, and compare them byte for byte; exit 1 when they differ."""
    from onetouch import audit
    from onetouch.cli import screen

    if decision is None and run is None:
        raise ValueError("replay: give a decision's id, or --run and a run's")
    workspace = call.installation()
    if run is None:
        assert decision is not None
        run = audit.find(workspace.lake, workspace.ledger, decision).run_id
    found = audit.replay(workspace.lake, workspace.ledger, run, None if decision is None else [decision])
    result: dict[str, Any] = {
        "run_id": run,
        "decision_id": decision,
        "identical": found.empty,
        "differences": audit.plain(found),
    }
    if left_out := audit.forgotten_in(workspace.lake, run):
        result["forgotten"] = left_out
    call.answer(result, lambda: screen.replayed(result))
    if not found.empty:
        fail(f"run {run}: {found['account_id'].nunique()} decisions come out otherwise today")


@app.command()
@shared
def shadow(call: Call, run: RunId = None) -> None:
    """What the shadow policy would have done otherwise in the last run."""
    from onetouch import audit, experiments
    from onetouch.cli import screen

    workspace = call.installation()
    of = audit.run_of(workspace.lake, workspace.ledger, run)
    found = experiments.read_shadow(workspace.lake, workspace.ledger, of)
    call.answer(found.record(), lambda: screen.difference(found))
