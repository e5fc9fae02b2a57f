"""Public holidays and weekends: of a country, or of a region of it, and which of them a place on earth belongs to.

The libraries that know them take time to import, so each is imported where it is first asked.
"""

from __future__ import annotations

import functools
from datetime import date
from typing import NamedTuple


class Place(NamedTuple):
    """A country (ISO 3166 code of two letters; empty: unknown) and a region of it (its code; empty: none is known)."""

    country: str = ""
    region: str = ""


NOWHERE = Place()
SATURDAY, SUNDAY = 5, 6

_SALES_REGIONS = ("AF", "AM", "AP", "AS", "LA", "ME", "NA", "SA")
"""Codes of countries that sales teams use for parts of the world: North America, South America, Middle East, …"""


@functools.cache
def has_holidays(country: str) -> bool:
    """Whether the public holidays of the country are known; false for what is no code of a country."""
    import holidays

    return country in holidays.list_supported_countries(include_aliases=False)


def is_public_holiday(day: date, place: Place) -> bool:
    """Whether it is a public holiday there: of the whole country, or of the region if one is given.

    False where the holidays are unknown.
    """
    return bool(place.country) and day in _of(place)


def weekend(place: Place) -> frozenset[int]:
    """The weekdays (Monday 0) on which most people there do not work; Saturday and Sunday where that is unknown."""
    return frozenset(_of(place).weekend) if place.country else frozenset((SATURDAY, SUNDAY))


@functools.cache
def place_of(region: str | None, timezone: str | None) -> Place:
    """Where a company is: by its region as the CRM has it, else by its time zone; NOWHERE if neither tells.

    A region is a country's code or English name ("DE", "Germany"), a part of it ("DE-BY"), or the name or code of a
    part of the country of the time zone ("Bayern"). A sales region ("EMEA", "NA") says nothing.
    """
    told = (region or "").strip()
    code, _, part = told.partition("-")
    for country in (code.upper(), _countries().get(told.casefold(), "")):
        if has_holidays(country) and told.upper() not in _SALES_REGIONS:
            return Place(country, _part(country, part))
    country = _country_of_zone(timezone) if timezone else ""
    return Place(country, _part(country, told)) if country else NOWHERE


@functools.cache
def _of(place: Place):  # type: ignore[no-untyped-def]  # the library's own type is found only by importing it
    import holidays

    return holidays.country_holidays(place.country, subdiv=place.region or None)


def _part(country: str, told: str) -> str:
    """The code of the part of the country that is called so; empty if none is."""
    known = _of(Place(country))
    named = {name.casefold(): code for name, code in known.subdivisions_aliases.items()}
    named |= {code.casefold(): code for code in known.subdivisions}
    return str(named.get(told.strip().casefold(), ""))


@functools.cache
def _countries() -> dict[str, str]:
    """English name, in lower case, and code of every country."""
    from babel import Locale

    return {name.casefold(): code for code, name in Locale("en").territories.items() if len(code) == 2}


def _country_of_zone(timezone: str) -> str:
    from babel.core import get_global

    today = get_global("zone_aliases").get(timezone, timezone)
    country = str(get_global("zone_territories").get(today, ""))
    return country if country and has_holidays(country) else ""
