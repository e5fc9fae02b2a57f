"""A record of what long runs have covered, in a file of lines that is kept with the project.

A run of hours is done in pieces, by whoever has the time. Each piece adds one line {"commit", "from", "to", "failed",
"seconds", "at"}: the range (its end excluded), the numbers that failed, how long it took and when it was done. A later
run of the same commit leaves out what is covered.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]


def commit() -> str:
    """The commit that is checked out, with a plus sign if files of the project differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "include", "judges", "plugins", "dags")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


class Record:
    """The record in one file."""

    def __init__(self, path: Path) -> None:
        self.path, self.commit = path, commit()

    def lines(self) -> list[dict[str, Any]]:
        """Every line, of all commits. Raises ValueError for a line that is none."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines() if line]

    def left(self, numbers: range, piece: int) -> Iterator[range]:
        """The pieces of a range that this commit has not covered yet, of at most `piece` numbers each."""
        mine = [(line["from"], line["to"]) for line in self.lines() if line["commit"] == self.commit]
        covered = {n for start, end in mine for n in range(max(start, numbers.start), min(end, numbers.stop))}
        at = numbers.start
        while at < numbers.stop:
            if at in covered:
                at += 1
                continue
            end = at
            while end < min(at + piece, numbers.stop) and end not in covered:
                end += 1
            yield range(at, end)
            at = end

    def add(self, numbers: range, failed: list[int], seconds: float, now: datetime) -> None:
        """Adds a piece that was done."""
        line = {
            "commit": self.commit, "from": numbers.start, "to": numbers.stop, "failed": failed,
            "seconds": round(seconds), "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
