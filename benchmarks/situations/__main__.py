"""`python -m benchmarks.situations`: plays situations of real orgs against the stand-ins; 1 when one ends otherwise.

    python -m benchmarks.situations [--only NAME …] [--json]

Each is told with the public report it was made after, what happens, what should come of it, and what was seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from rich.console import Console

import benchmarks.situations as here
from benchmarks.situations.situation import SITUATIONS, Seen, Situation, Stage
from tests.delivery.world import empty_ledger, running


def known() -> dict[str, Situation]:
    """All situations, by name, in the order of the files."""
    for module in iter_modules(here.__path__, f"{here.__name__}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return SITUATIONS


def played(situations: list[Situation], folder: Path) -> Iterator[tuple[Situation, Seen]]:
    """Plays each on a stage of its own; one that raises has not come out as expected."""
    (home := folder / "stand-in").mkdir()
    new = empty_ledger(folder / "ledger.db")
    with running(home) as org:
        for situation in situations:
            try:
                seen = situation.play(Stage(org, new, folder / situation.name))
            except Exception as error:
                seen = Seen(False, f"{type(error).__name__}: {error}".splitlines()[0][:300])
            yield situation, seen


def main() -> int:
    """Plays and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names, or files such as orgs")
    parser.add_argument("--json", action="store_true", help="one object a line")
    given = parser.parse_args()
    chosen = [s for s in known().values() if not given.only or {s.name, s.kind} & set(given.only)]
    console, wrong = Console(soft_wrap=True, highlight=False), []
    with tempfile.TemporaryDirectory(prefix="onetouch-situations-") as folder:
        for number, (situation, seen) in enumerate(played(chosen, Path(folder)), 1):
            if not seen.holds:
                wrong.append(situation.name)
            if given.json:
                row = {"name": situation.name, "kind": situation.kind, "source": situation.source}
                row |= {"happens": situation.happens, "expected": situation.expected}
                print(json.dumps(row | {"seen": seen.words, "holds": seen.holds}), flush=True)
                continue
            mark = "[green]✓[/]" if seen.holds else "[red]✗[/]"
            console.print(f"{mark} {number:>2} [bold]{situation.name.replace('_', ' ')}[/] [dim]{situation.source}[/]")
            console.print(f"     happens:  {situation.happens}", markup=False)
            console.print(f"     expected: {situation.expected}", markup=False)
            console.print(f"     seen:     {seen.words}", markup=False)
    if not given.json:
        console.print(f"{len(chosen)} situations, {len(wrong)} came out otherwise: {', '.join(wrong) or 'none'}")
    return int(bool(wrong) or not chosen)


if __name__ == "__main__":
    sys.exit(main())
