"""The numbers that events carry, as far as they can be true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetouch.catalogue import EVENTS

if TYPE_CHECKING:
    import ibis.expr.types as ir


def possible(value: ir.FloatingValue, event: ir.StringValue) -> ir.FloatingValue:
    """The value that an event of ours (its canonical name) carries; null if the event cannot carry that number.

    `catalogue.Event.values` says which numbers an event can carry. Anybody who reads the public key of a web page can
    send any number, so a number that cannot be true costs this value and nothing else.
    """
    import ibis

    names: dict[tuple[float, float], list[str]] = {}
    for declared in EVENTS:
        names.setdefault(declared.values, []).append(declared.name)
    within = (event.isin(of) & value.between(*bounds) for bounds, of in names.items())
    return ibis.or_(*within).ifelse(value, ibis.null())  # NaN is greater than every number, so it is not within
