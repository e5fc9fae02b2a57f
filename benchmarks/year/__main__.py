"""`python -m benchmarks.year`: lives the year and prints what it came to; exits with 1 when a promise was broken.

A month of 2,000 accounts unless told otherwise; `make year` lives the whole year of 20,000. `--rules before` lives it
under the rules that any end of a handoff cooled down alike and intent was as old as its window: what it prints under
"whom it reaches" is to be compared.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from judges.year.company import Size
from judges.year.oracle import GUARANTEES
from judges.year.year import Year, as_before, policies

DECISIONS_AGAIN = 1_000


def main() -> int:
    """Lives the year; 1 when a guarantee was violated or a replay differed."""
    arguments = _arguments()
    console = Console()
    size = Size(arguments.accounts, arguments.days, arguments.reps)
    with tempfile.TemporaryDirectory(prefix="onetouch-year-", dir=arguments.home) as home:
        begun = time.perf_counter()
        plan = policies(size)
        year = Year(Path(home), size, as_before(plan) if arguments.rules == "before" else plan)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("runs", total=year.runs)

            def told(number: int) -> None:
                progress.advance(task)
                if not console.is_terminal and number % 100 == 99:
                    violated = sum(year.oracle.counted.values())
                    console.print(f"{number + 1} runs, {time.perf_counter() - begun:,.0f} s, {violated} violations")

            year.live(told)
        lived = time.perf_counter() - begun
        made, different = year.replayed(DECISIONS_AGAIN)
        _print(console, year, lived)
        console.print(
            f"Replay after {len(year.plan) - 1} changes of policy: {made:,} decisions of {len(year.kept)} runs made "
            f"again, {made - different['decision_id'].nunique():,} identical"
        )
        for guarantee, words in sorted(year.oracle.violations.items()):
            console.print(f"{guarantee} {GUARANTEES[guarantee]}:", *words, sep="\n  ")
        for words in year.oracle.wrong_signals[:20]:
            console.print(f"signal told wrong: {words}")
        return int(bool(year.oracle.counted or year.oracle.wrong_signals or len(different)))


def _print(console: Console, year: Year, seconds: float) -> None:
    figures, oracle = year.figures, year.oracle
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    console.print(
        f"{figures.runs:,} runs · {year.size.accounts:,} accounts · {year.size.days} days · "
        f"{figures.decisions:,} decisions · {seconds:,.0f} s ({seconds / max(1, figures.runs):.2f} a run, "
        f"the slowest {figures.slowest:.2f}) · {peak:,.0f} MB"
    )
    actions = Table(title="Decisions")
    actions.add_column("action")
    actions.add_column("decisions", justify="right")
    for action, count in figures.actions.most_common():
        actions.add_row(action, f"{count:,}")
    console.print(actions)

    kept = Table(title="Violations")
    for column in ("guarantee", "looked at", "violated"):
        kept.add_column(column, justify="left" if column == "guarantee" else "right")
    for guarantee, name in GUARANTEES.items():
        kept.add_row(f"{guarantee} {name}", f"{oracle.checked[guarantee]:,}", f"{oracle.counted[guarantee]:,}")
    console.print(kept)

    ended = year.ends()
    met, asked = year.sla()
    capacity = year.capacity()
    waits = np.array(figures.waits or [0.0])
    lines = {
        "to send": f"{figures.to_send:,}: {figures.delivered:,} delivered, {sum(figures.withheld.values()):,} withheld "
        f"({', '.join(f'{n:,} {why}' for why, n in figures.withheld.most_common()) or 'none'}), {figures.failed:,} "
        f"failed, of which {figures.later:,} went out with a later run; {figures.stopped:,} runs stopped at the cap",
        "why": ", ".join(f"{n:,} {call}" for call, n in figures.calls.most_common()),
        "tasks": f"{len(year.crm.by_handoff):,}; " + ", ".join(f"{n:,} {state}" for state, n in ended.most_common()),
        "withdrawn while open": f"{figures.withdrawn:,}; {figures.provoked:,} upgrades begun at the worst moments",
        "whom it reaches": f"{len(year.crm.by_handoff):,} tasks; {oracle.asked:,} of accounts that had asked for a "
        f"person, {oracle.asked_again:,} of them again; {oracle.fresh / max(1, len(year.crm.by_handoff)):.1%} with "
        "fresh intent or a lasting state",
        "contacted in time": f"{met:,} of {asked:,} ({met / max(1, asked):.1%}), in the reps' working hours",
        "tasks a rep and working day": f"mean {capacity['mean'].mean():.2f} (least {capacity['mean'].min():.2f}, "
        f"most {capacity['mean'].max():.2f}), never more than {capacity['most'].max()}",
        "waited for a rep": f"{len(figures.waits):,} accounts, mean {waits.mean():.1f} h, longest {waits.max():.0f} h; "
        f"{figures.queue_expired:,} waited too long",
        "ms a run": ", ".join(f"{name} {s / figures.runs * 1000:.0f}" for name, s in figures.seconds.most_common()),
    }
    for name, words in lines.items():
        console.print(f"[bold]{name}[/bold]: {words}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--reps", type=int, default=24)
    parser.add_argument("--rules", choices=("today", "before"), default="today", help="default: today")
    parser.add_argument("--home", type=Path, help="folder to work in; what is made there is removed at the end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
