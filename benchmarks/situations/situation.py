"""A situation: what happens in a company's org, after which report, what should come of it, and what is seen.

Each file beside this one has the situations of one kind. A situation is a function that gets a `Stage`, plays what
happens, and gives what is seen at the far end (the stand-in's records, the ledger, what the command line prints) and
whether that is what was expected:

    @situation(source="owner/repository #12", happens="…", expected="…")
    def validation_rule_mended(stage: Stage) -> Seen:
        world = stage.world()
        …
        return Seen(len(world.org.tasks()) == 3, "3 tasks on Tuesday")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from onetouch.policy import read_policy

from tests.contracts.crm_stand_ins import StandIn, stand_in
from tests.delivery.world import Org, World


@dataclass(frozen=True)
class Seen:
    """Whether what was expected came, and what was seen, in one line."""

    holds: bool
    words: str


class Stage:
    """Where a situation plays: a running stand-in, and as many companies with an empty ledger as it needs."""

    def __init__(self, org: Org, new_ledger: Path, folder: Path) -> None:
        self.org, self.folder = org, folder
        self._new_ledger, self._number = new_ledger, count()
        folder.mkdir()

    def world(self, **policy: Any) -> World:
        """A company of its own, in an emptied stand-in, with keys of the policy changed (`crm__system="hubspot"`)."""
        self.org.empty()
        rules = read_policy().changed(**policy) if policy else read_policy()
        return World(self.folder / f"world-{next(self._number)}", self.org, rules, self._new_ledger)

    def crm(self, world: World, name: str) -> StandIn:
        """The CRM of that name at the stand-in, with two reps and no account, for things that people do there."""
        return stand_in(name, world)


@dataclass(frozen=True)
class Situation:
    """`source`: the public report after which it is told; `happens`, `expected`: one or two sentences each."""

    name: str
    kind: str
    source: str
    happens: str
    expected: str
    play: Callable[[Stage], Seen]


SITUATIONS: dict[str, Situation] = {}


def situation(*, source: str, happens: str, expected: str) -> Callable[[Callable[[Stage], Seen]], Situation]:
    """Registers the function as a situation named like it. Raises ValueError for a name that is taken."""

    def register(play: Callable[[Stage], Seen]) -> Situation:
        name, kind = play.__name__, play.__module__.rpartition(".")[2]
        if name in SITUATIONS:
            raise ValueError(f"situation {name}: {SITUATIONS[name].kind} has one of that name")
        SITUATIONS[name] = Situation(name, kind, source, happens, expected, play)
        return SITUATIONS[name]

    return register
