"""The names of a batch's events: which the policy knows, which it ignores, and what the others look like."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from onetouch.lake import Engine
from onetouch.policy import Policy

if TYPE_CHECKING:
    import ibis.expr.types as ir

KNOWN, IGNORED, UNKNOWN = "known", "ignored", "unknown"

ALIKE = 0.85
"""Share of equal characters (`difflib`'s ratio) from which a name looks like another (ours)."""

_MOST_NAMES = 10_000  # ours: rarer names are counted as unknown, and not looked at
_SHOWN = 20  # ours: more names are counted, and not listed
_LONGEST = 80


def event_names(engine: Engine, events: ir.Table, policy: Policy) -> pd.DataFrame:
    """One row for each name of a source, the most frequent first: source, event, n (events of that name), kind (KNOWN,
    IGNORED or UNKNOWN), looks_like (the name of the vocabulary that an unknown one looks like, else null)."""
    import ibis

    counted = events.group_by("source", "event").agg(n=events.count())
    counted = counted.filter(counted.event.notnull()).order_by(ibis.desc("n"), "source", "event").limit(_MOST_NAMES)
    names = engine.fetch(counted).to_pandas()
    ours = {source: policy.vocabulary_of(source) for source in names["source"].unique()}
    kinds = [
        KNOWN if name in ours[source] else IGNORED if policy.events.ignored.fullmatch(name) else UNKNOWN
        for source, name in zip(names["source"], names["event"], strict=True)
    ]
    alike = [
        looks_like(name, ours[source]) if kind == UNKNOWN and place < _MOST_NAMES // 100 else None
        for place, (source, name, kind) in enumerate(zip(names["source"], names["event"], kinds, strict=True))
    ]
    found: pd.DataFrame = names.assign(kind=kinds, looks_like=pd.Series(alike, dtype="object"))
    return found


def looks_like(name: str, known: Collection[str]) -> str | None:
    """The known name that `name` is probably a spelling of; None if there is none.

    The same words count as the same name, whatever their case, order and separators; so do names that are ALIKE.
    """
    spelled = {_plain(other): other for other in known}
    words = {tuple(sorted(plain.split("_"))): other for plain, other in spelled.items()}
    plain = _plain(name)
    if other := spelled.get(plain) or words.get(tuple(sorted(plain.split("_")))):
        return other
    near = difflib.get_close_matches(plain, spelled, n=1, cutoff=ALIKE)
    return spelled[near[0]] if near else None


def _plain(name: str) -> str:
    """The words of a name in lower case, separated by `_`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\W_]+", "_", words.casefold()).strip("_")


def listed(names: pd.DataFrame, kind: str) -> dict[str, int]:
    """Name → number of events, of the most frequent names of a kind; the others together under `(others)`."""
    counts = names[names["kind"] == kind].groupby("event", sort=False)["n"].sum().sort_values(ascending=False)
    found = {shown(str(name)): int(n) for name, n in counts.head(_SHOWN).items()}
    if rest := int(counts.iloc[_SHOWN:].sum()):
        found["(others)"] = rest
    return found


def shown(name: str) -> str:
    """A vendor's name as a message may show it: not too long, and no e-mail address."""
    return "(an e-mail address)" if "@" in name else name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"


def told(names: pd.DataFrame) -> list[str]:
    """One line for each unknown name that looks like a known one, and one for all the other unknown names."""
    unknown = names[names["kind"] == UNKNOWN]
    near = unknown[unknown["looks_like"].notna()].head(_SHOWN)
    lines = [
        f"batch-{row.source}: unknown event `{shown(str(row.event))}` ({row.n:,} events) looks like `{row.looks_like}`"
        ": map it in vocabulary, or name it in events.ignore"
        for row in near.itertuples()
    ]
    for source, others in unknown[unknown["looks_like"].isna()].groupby("source"):
        counts = ", ".join(f"`{name}` {n:,}" if name[0] != "(" else f"{n:,} of others" for name, n in _of(others))
        lines.append(
            f"batch-{source}: {len(others):,} unknown event names, {others['n'].sum():,} events: {counts}; map them in "
            "vocabulary, or name them in events.ignore"
        )
    return lines


def _of(names: pd.DataFrame) -> Iterable[tuple[str, int]]:
    return listed(names, UNKNOWN).items()


def projects_told(batches: Iterable[Mapping[str, Any]], policy: Policy) -> list[str]:
    """One line for each source whose rows come from several projects, or from one that does not count."""
    lines, wanted = [], policy.events.projects
    for batch in batches:
        projects: dict[str, int] = batch["counts"].get("projects") or {}
        others = {name: n for name, n in projects.items() if name not in wanted} if wanted else {}
        if others:
            lines.append(f"batch-{batch['source']}: rows of other projects, left out: {_counts(others)}")
        elif not wanted and len(projects) > 1:
            lines.append(
                f"batch-{batch['source']}: events of {len(projects)} projects count together ({_counts(projects)}); "
                "name those that count in events.projects"
            )
    return lines


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{shown(name)} {n:,}" for name, n in of.items())
