"""Mutants of `scoring/` and `routing/`: how many the tests kill, and the ones that live. Run: make mutants

Also of `delivery/`, `crm_sync/` and `ledger/` (`--rooms`), which takes hours: `--record` tries the numbers `--from` to
`--to` of the sample that `--seed` draws, adds each piece with the names of the survivors to benchmarks/results/
mutants.jsonl, and leaves out what is there of this commit. `--folder` keeps mutants and timings between pieces.

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
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.record import HERE, Record

ROOMS = ("scoring", "routing")
DELIVERING = ("delivery", "crm_sync", "ledger")
"""Rooms whose mutants are tried in pieces: the tests of all three, and the model, are shown to each."""

SAMPLE, PIECE = 500, 10
RECORD = HERE / "benchmarks" / "results" / "mutants.jsonl"
# A mutant that runs for ever, or takes the process with it, is noticed, too.
KILLED = ("killed", "timeout", "suspicious", "segfault")

LATER = (
    "test_properties.py", "test_deliver.py", "test_back_off.py", "test_accounts_many.py", "test_traces.py",
    "test_rivals.py", "test_migrations.py", "test_model.py",
)  # fmt: skip
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
also_copy = ["judges", "tests"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
addopts = "--import-mode=importlib -m 'not long'"
markers = ["long: takes minutes"]
"""


def prepare(folder: Path) -> None:
    """A copy of the library and of the tests, laid out as mutmut wants it."""
    ignore = shutil.ignore_patterns("__pycache__", *NEVER)
    shutil.copytree(HERE / "include" / "onetouch", folder / "src" / "onetouch", ignore=ignore)
    shutil.copytree(HERE / "tests", folder / "tests", ignore=ignore)
    shutil.copytree(HERE / "judges", folder / "judges", ignore=ignore)


def folders(rooms: tuple[str, ...]) -> tuple[str, ...]:
    """The folders of tests that are shown to mutants of these rooms."""
    return (*DELIVERING, "model") if set(rooms) <= set(DELIVERING) else ROOMS


def run(
    folder: Path, rooms: tuple[str, ...], workers: int, *, names: list[str] | None = None, slow: bool = False
) -> dict[str, str]:
    """Mutant → what became of it; with `names` only those are tried, with `slow` shown to the slow tests, too."""
    files = sorted(
        str(f.relative_to(folder)) for room in folders(rooms) for f in (folder / "tests" / room).glob("test_*.py")
    )
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


def pieces(folder: Path, rooms: tuple[str, ...], workers: int, seed: int, numbers: range) -> None:
    """Tries these numbers of the sample, as far as the record lacks them, and records them piece by piece."""
    nothing = ["no.such.mutant"]  # makes the mutants and times the tests, and tries none
    every = sorted(run(folder, rooms, workers, names=nothing))
    drawn = random.Random(seed).sample(every, min(SAMPLE, len(every)))
    record = Record(RECORD)
    about = {"rooms": list(rooms), "seed": seed, "of": len(every)}
    for piece in record.left(numbers, PIECE, about):
        begun = time.perf_counter()
        names = [drawn[number] for number in piece]
        found = run(folder, rooms, workers, names=names)
        if alive := [name for name in names if found[name] == "survived"]:
            found |= run(folder, rooms, workers, names=alive, slow=True)
        lives = {number: drawn[number] for number in piece if found[drawn[number]] not in KILLED}
        told = {"alive": {name: found[name] for name in lives.values()}}
        record.add(piece, sorted(lives), time.perf_counter() - begun, datetime.now(UTC), about | told)
        print(
            f"{piece.start} to {piece.stop - 1}: {len(piece) - len(lives)} of {len(piece)} killed; {told}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutants of scoring and routing.")
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS), choices=(*ROOMS, *DELIVERING))
    parser.add_argument("--only", nargs="+", help="modules of the rooms, such as routing.returns; default: all")
    parser.add_argument("--sample", type=int, default=None, help="so many mutants, drawn by --seed; default: all")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="file for the survivors' diffs")
    parser.add_argument("--record", action="store_true", help="numbers of the sample, in pieces, with a record")
    parser.add_argument("--from", dest="start", type=int, default=0)
    parser.add_argument("--to", type=int, default=SAMPLE)
    parser.add_argument("--folder", type=Path, default=None, help="where mutants and timings are kept between pieces")
    args = parser.parse_args()
    if args.record:
        with tempfile.TemporaryDirectory(prefix="onetouch-mutants-") as temporary:
            folder = args.folder or Path(temporary)
            if not (folder / "src").exists():
                folder.mkdir(exist_ok=True)
                prepare(folder)
            pieces(folder, tuple(args.rooms), args.workers, args.seed, range(args.start, min(args.to, SAMPLE)))
        return
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
