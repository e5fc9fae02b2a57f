"""What a batch lost: files and hours that could not be read, in figures for checks and in sentences for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from onetouch.sources import Fetched, vendor_of

_NAMED_HOURS = ("expected", "seen", "damaged", "empty", "lost")


def losses(
    source: str, fetched: Fetched, counts: Mapping[str, Any], first: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """What was lost of a batch with these counts {in, kept, duplicates, quarantined, repaired}.

    `first`: the first rejected rows {file, line, reason, shown}. Returns

    - hours: {expected, seen, damaged, empty, lost} as in `Coverage`, and `rows`, about how many rows the lost hours had
      (an hour that was read has as many rows as all of them on average; null if none was read)
    - lost_hours_rate: the share of the expected hours that is lost; null if the names of the files tell no hours
    - ignored: reason → number of files that are nobody's data
    - warnings: sentences without personal data
    """
    coverage = fetched.coverage
    read = coverage.expected - coverage.lost - coverage.empty
    rows = counts["in"] - len(fetched.refused)
    lost_rows = round(coverage.lost * rows / read) if read > 0 else None
    hours = {name: getattr(coverage, name) for name in _NAMED_HOURS} | {"rows": lost_rows}
    warnings = []
    if counts["in"] and not counts["kept"] and not counts["duplicates"]:
        warnings += _nothing(counts, list(first))
    if coverage.lost:
        about = "" if lost_rows is None else f", about {lost_rows:,} rows"
        warnings.append(
            f"{coverage.lost:g} of {coverage.expected:,} hours are lost ({_percent(coverage.lost, coverage.expected)}"
            f"{about}), the first is {coverage.first_damaged}; fetch these hours again"
        )
    warnings += _unread(fetched)
    for reason, number in counts["repaired"].items():
        warnings.append(f"a value that could not be read was mended or left out ({reason}): {number:,} events")
    return {
        "hours": hours,
        "lost_hours_rate": coverage.lost / coverage.expected if coverage.expected else None,
        "ignored": dict(sorted(Counter(one.reason for one in fetched.ignored).items())),
        "warnings": [f"{source}: {warning}" for warning in warnings],
    }


def total(of_sources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The losses of all sources of a run; batches of earlier releases have none."""
    hours: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    warnings: list[str] = []
    for counts in of_sources:
        hours.update({name: number or 0 for name, number in counts.get("hours", {}).items()})
        ignored.update(counts.get("ignored", {}))
        warnings += counts.get("warnings", [])
    return {
        "hours": {name: round(hours[name], 3) for name in (*_NAMED_HOURS, "rows")},
        "ignored": dict(sorted(ignored.items())),
        "warnings": warnings,
    }


def _nothing(counts: Mapping[str, Any], first: list[Mapping[str, Any]]) -> list[str]:
    """Why no row was an event, and whose rows they look like."""
    if not first:
        return [f"none of {counts['in']:,} rows is an event"]
    row = first[0]
    line = "" if row["line"] is None else f", line {row['line']}"
    vendor = next((vendor for row in first if (vendor := vendor_of((row["shown"] or "").encode()))), None)
    looks = f"; they look like {vendor}" if vendor else ""
    return [f"none of {counts['in']:,} rows is an event; the first ({row['file']}{line}): {row['reason']}{looks}"]


def _unread(fetched: Fetched) -> list[str]:
    """A sentence for each reason why files were not read, with the first of them."""
    said = []
    for reason, number in sorted(Counter(refusal.reason for refusal in fetched.refused).items()):
        one = next(refusal for refusal in fetched.refused if refusal.reason == reason)
        more = f" and {number - 1:,} more" if number > 1 else ""
        said.append(f"not read ({reason}): {one.file}{more}: {one.detail}")
    return said


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"
