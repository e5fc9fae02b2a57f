"""Explores the model breadth-first, every state to the bound: no promise is broken, and every handoff ends."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from judges.model.actions import Bound, Broken, Model, Next
from judges.model.code import Code
from judges.model.state import ABSENT, State, Visible, visible

Path = list[str]


@dataclass
class Explored:
    """What an exploration came to. `broken`: the first promise that is broken, and the shortest `path` to it. `seen`:
    what can be seen of one handoff → what was seen after one more thing had happened."""

    bound: Bound
    states: int = 0
    edges: int = 0
    depth: int = 0
    seconds: float = 0.0
    broken: Broken | str | None = None
    path: Path = field(default_factory=list)
    seen: dict[Visible, set[Visible]] = field(default_factory=lambda: defaultdict(set))

    def __str__(self) -> str:
        found = f"{self.states:,} states, {self.edges:,} steps, depth {self.depth}, {self.seconds:.1f} s · {self.bound}"
        if self.broken is None:
            return f"{found} · nothing broken"
        return "\n".join([f"{found} · {self.broken}", *(f"{n:>3}. {what}" for n, what in enumerate(self.path, 1))])


def explore(bound: Bound, code: Code | None = None, *, most: int = 5_000_000) -> Explored:
    """Every state that can be reached within the bound; ends at the first broken promise.

    Raises ValueError when there are more than `most` states.
    """
    begun = time.perf_counter()
    model = Model(bound, code)
    number: dict[State, int] = {model.start: 0}
    states, parents, whats = [model.start], [0], [""]
    sources, targets, fairs = list[int](), list[int](), list[str]()
    explored = Explored(bound)
    seen = explored.seen

    def path(i: int, *last: Next) -> Path:
        way = []
        while i:
            way.append(Next(whats[i], states[i]))
            i = parents[i]
        return _told(model.start, [*way[::-1], *last])

    level_ends, at = 1, 0
    while at < len(states):
        if at == level_ends:
            explored.depth, level_ends = explored.depth + 1, len(states)
        state = states[at]
        before = [visible(episode) for episode in state.episodes]
        for following in model.nexts(state):
            after = following.state
            if following.broken is not None:
                explored.broken, explored.path = following.broken, path(at, following)
                break
            for place, episode in enumerate(after.episodes):
                shown = visible(episode)
                was = before[place] if place < len(before) else ABSENT
                if shown != was:
                    seen[was].add(shown)
            there = number.get(after)
            if there is None:
                there = number[after] = len(states)
                states.append(after)
                parents.append(at)
                whats.append(following.what)
                if there > most:
                    raise ValueError(f"more than {most:,} states within the bound: {bound}")
            sources.append(at)
            targets.append(there)
            fairs.append(following.fair)
        if explored.broken is not None:
            break
        at += 1
    explored.states, explored.edges = len(states), len(sources)
    if explored.broken is None:
        ended = np.fromiter((not s.episodes or model.ended(s) for s in states), bool, len(states))
        stuck, why = _stuck(np.array(sources), np.array(targets), fairs, ended)
        if stuck is not None:
            explored.broken, explored.path = why, path(stuck)
    explored.seconds = time.perf_counter() - begun
    return explored


def _told(state: State, way: list[Next]) -> Path:
    """What happened, with the process that did it: A or B. In a state they have no order."""
    now, steps = list(state.processes), []
    for following in way:
        before, after = list(state.processes), list(following.state.processes)
        for process in state.processes:
            if process in after:
                before.remove(process)
                after.remove(process)
        who = ""
        if before:
            place = now.index(before[0])
            now[place], who = after[0], f"{'AB'[place]}: "
        steps.append(who + following.what)
        state = following.state
    return steps


def _stuck(sources: np.ndarray, targets: np.ndarray, fairs: list[str], ended: np.ndarray) -> tuple[int | None, str]:
    """The first state from which no end can be reached, or that is in a fair cycle without one; and which it is."""
    count = len(ended)
    goal = np.flatnonzero(ended)
    # One node more leads to every ended state: what it reaches backwards can end.
    back = csr_array(
        (
            np.ones(len(sources) + len(goal), np.int8),
            (np.concatenate([targets, np.full(len(goal), count)]), np.concatenate([sources, goal])),
        ),
        shape=(count + 1, count + 1),
    )
    reached = breadth_first_order(back, count, return_predecessors=False)
    ends = np.zeros(count + 1, bool)
    ends[reached] = True
    if not ends[:count].all():
        return int(np.flatnonzero(~ends[:count])[0]), "progress: from here no handoff can end"
    return _fair_cycle(sources, targets, np.array(fairs), ended)


def _fair_cycle(
    sources: np.ndarray, targets: np.ndarray, fairs: np.ndarray, ended: np.ndarray
) -> tuple[int | None, str]:
    """A set of states without an end in which everything fair that can happen stays within the set."""
    count = len(ended)
    inside = ~ended[sources] & ~ended[targets]
    graph = csr_array((np.ones(inside.sum(), np.int8), (sources[inside], targets[inside])), shape=(count, count))
    _, component = connected_components(graph, connection="strong")
    stays = inside & (component[sources] == component[targets])
    # Components with a step within them; of each, what is fair that can happen there and what of it stays there.
    can, done = defaultdict(set), defaultdict(set)
    fair = (fairs != "") & ~ended[sources]
    for c, name in set(zip(component[sources[fair]].tolist(), fairs[fair].tolist(), strict=True)):
        can[c].add(name)
    within = fair & stays
    for c, name in set(zip(component[sources[within]].tolist(), fairs[within].tolist(), strict=True)):
        done[c].add(name)
    for c in done:
        if can[c] <= done[c]:
            return int(np.flatnonzero((component == c) & ~ended)[0]), "progress: a handoff may go on for ever from here"
    return None, ""
