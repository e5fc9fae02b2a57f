"""Where a company is, by what the CRM and its time zone say, and when people there do not work."""

from __future__ import annotations

from datetime import date
from zoneinfo import available_timezones

import pytest
from onetouch.public_holidays import NOWHERE, Place, is_public_holiday, place_of, weekend


@pytest.mark.parametrize(
    ("region", "timezone", "place"),
    [
        ("DE", None, Place("DE")),
        ("de", None, Place("DE")),
        (" Germany ", "America/New_York", Place("DE")),
        ("DE-BY", None, Place("DE", "BY")),
        ("Bayern", "Europe/Berlin", Place("DE", "BY")),
        ("US-CA", "UTC", Place("US", "CA")),
        ("CA", "America/Los_Angeles", Place("CA")),
        ("EMEA", "Europe/Berlin", Place("DE")),
        ("NA", "America/New_York", Place("US")),  # North America, not Namibia
        ("SA", "Asia/Riyadh", Place("SA")),
        ("ME", None, NOWHERE),
        ("West", None, NOWHERE),
        (None, "Asia/Calcutta", Place("IN")),  # a former name
        (None, "UTC", NOWHERE),
        (None, "Etc/GMT+5", NOWHERE),
        (None, None, NOWHERE),
        ("", "no/zone", NOWHERE),
        ("--", "", NOWHERE),
        ("DE-ZZ", None, Place("DE")),
    ],
)
def test_a_place_is_the_country_of_the_region_else_of_the_zone(
    region: str | None, timezone: str | None, place: Place
) -> None:
    assert place_of(region, timezone) == place


def test_every_zone_has_a_place_or_none() -> None:
    places = [place_of(None, zone) for zone in sorted(available_timezones())]
    assert sum(place != NOWHERE for place in places) > 400
    for place in {*places}:
        assert len(weekend(place)) in (1, 2)
        is_public_holiday(date(2026, 1, 1), place)


def test_holidays_and_weekends_are_those_of_the_place() -> None:
    epiphany = date(2026, 1, 6)  # in Bavaria, not in all of Germany
    assert [is_public_holiday(epiphany, Place("DE", part)) for part in ("", "BY")] == [False, True]
    assert not is_public_holiday(date(2026, 12, 25), NOWHERE)
    assert [sorted(weekend(Place(country))) for country in ("", "DE", "IL")] == [[5, 6], [5, 6], [4, 5]]
