"""Mutants of `scoring/` and `routing/`: how many the tests kill, and the ones that live. Run: make mutants

Every function body is changed in small ways, one change at a time, and the tests of the two rooms must notice. Rules
and numbers are tables, which this does not change: `tests/experiments/test_scenarios.py` removes each rule, and every
number is the policy's. Prints the share killed, writes the diffs of the survivors to `--out`; `docs/mutants.md` judges
them.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("scoring", "routing")
# A mutant that runs for ever, or takes the process with it, is noticed, too.
KILLED = ("killed", "timeout", "suspicious", "segfault")

LATER = ("test_properties.py",)
"""Slow: only what the other tests let live is shown to these."""
NEVER = ("test_year.py", "test_event_orders.py")
"""Whole simulations: what they would find comes too late to be worth their time here."""

CONFIG = """
[tool.mutmut]
source_paths = ["src/onetouch"]
only_mutate = {only}
mutate_only_covered_lines = true
pytest_add_cli_args = ["-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = {tests}

[tool.pytest.ini_options]
testpaths = ["tests"]
"""


def prepare(folder: Path) -> None:
    """A copy of the library and of both rooms' tests, laid out as mutmut wants it."""
    ignore = shutil.ignore_patterns("__pycache__", *NEVER)
    shutil.copytree(REPOSITORY / "include" / "onetouch", folder / "src" / "onetouch", ignore=ignore)
    (folder / "tests").mkdir()
    shutil.copy(REPOSITORY / "tests" / "conftest.py", folder / "tests")
    for room in ROOMS:
        shutil.copytree(REPOSITORY / "tests" / room, folder / "tests" / room, ignore=ignore)


def run(
    folder: Path, rooms: tuple[str, ...], workers: int, *, names: list[str] | None = None, slow: bool = False
) -> dict[str, str]:
    """Mutant → what became of it; with `names` only those are tried, with `slow` shown to the slow tests, too."""
    files = sorted(str(f.relative_to(folder)) for f in (folder / "tests").glob("*/test_*.py"))
    shown = [f for f in files if slow or Path(f).name not in LATER]
    only = [f"src/onetouch/{room}/*" for room in rooms]
    (folder / "pyproject.toml").write_text(CONFIG.format(only=json.dumps(only), tests=json.dumps(shown)))
    tool = [sys.executable, "-m", "mutmut"]
    command = [*tool, "run", "--max-children", str(workers), *(names or [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    listed = subprocess.run([*tool, "results", "--all", "true"], cwd=folder, capture_output=True, text=True, check=True)
    pairs = (line.strip().rsplit(": ", 1) for line in listed.stdout.splitlines() if ": " in line)
    found = {name: state for name, state in pairs}
    if not found:
        raise SystemExit(f"no mutants were tried; the last lines were:\n{(done.stdout + done.stderr)[-2000:]}")
    return found


def diffs(folder: Path, names: list[str]) -> str:
    """What was changed in each of these mutants."""
    tool = [sys.executable, "-m", "mutmut", "show"]
    shown = [subprocess.run([*tool, name], cwd=folder, capture_output=True, text=True).stdout for name in names]
    return "\n".join(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutants of scoring and routing.")
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS), choices=ROOMS)
    parser.add_argument("--only", nargs="+", help="modules of the rooms, such as routing.returns; default: all")
    parser.add_argument("--sample", type=int, default=None, help="so many mutants, drawn by --seed; default: all")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="file for the survivors' diffs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onetouch-mutants-") as temporary:
        folder = Path(temporary)
        rooms = tuple(args.rooms)
        prepare(folder)
        if args.only:
            patterns = [f"*.{module}.*" for module in args.only]
            found = run(folder, rooms, args.workers, names=patterns)
            found = {n: state for n, state in found.items() if any(fnmatch.fnmatch(n, p) for p in patterns)}
        elif args.sample is None:
            found = run(folder, rooms, args.workers)
        else:
            every = sorted(run(folder, rooms, args.workers, names=["*__mutmut_1"]))
            drawn = sorted(random.Random(args.seed).sample(every, min(args.sample, len(every))))
            print(f"a sample of {len(drawn)} of {len(every)} mutants, seed {args.seed}", flush=True)
            found = {
                name: state for name, state in run(folder, rooms, args.workers, names=drawn).items() if name in drawn
            }
        alive = sorted(name for name, state in found.items() if state == "survived")
        print(f"{len(found)} mutants, {len(alive)} alive before the slow tests", flush=True)
        if alive:
            found |= {
                name: state
                for name, state in run(folder, rooms, args.workers, names=alive, slow=True).items()
                if name in alive
            }
        tried = {name: state for name, state in found.items() if state not in ("no tests", "skipped", "not checked")}
        counts = Counter(tried.values())
        killed = sum(counts[state] for state in KILLED)
        for room in args.rooms:
            mine = [state for name, state in tried.items() if f"onetouch.{room}." in name]
            dead = sum(state in KILLED for state in mine)
            print(f"{room}: {dead} of {len(mine)} mutants killed ({dead / max(len(mine), 1):.1%})")
        print(f"together: {killed} of {len(tried)} ({killed / len(tried):.1%}); {dict(counts)}")
        survivors = sorted(name for name, state in tried.items() if state == "survived")
        uncovered = sorted(name for name, state in found.items() if state == "no tests")
        for name in survivors:
            print(f"  survived  {name}")
        for name in uncovered:
            print(f"  no tests  {name}")
        if args.out:
            args.out.write_text(diffs(folder, survivors + uncovered))


if __name__ == "__main__":
    main()
