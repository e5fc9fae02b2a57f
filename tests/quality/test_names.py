"""Unknown, ignored and known names of events, and projects: told with counts, and stopping nothing by themselves."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.policy import read_policy
from onetouch.quality import check_events
from onetouch.quality.names import looks_like, told
from pydantic import ValidationError

OURS = [*read_policy().vocabulary]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Checkout Started", "checkout_started"),
        ("checkoutStarted", "checkout_started"),
        ("CHECKOUT-STARTED", "checkout_started"),
        ("started checkout", "checkout_started"),
        ("checkout_start", "checkout_started"),
        ("checkout_started_v2", "checkout_started"),
        ("pricing.viewed", "pricing_viewed"),
        ("Page Viewed", None),
        ("[Amplitude] Element Clicked", None),
        ("$autocapture", None),
        ("", None),
    ],
)
def test_a_name_looks_like_ours_when_its_words_do(name, ours):
    assert looks_like(name, OURS) == ours


@given(st.sampled_from(OURS), st.sampled_from(["title", "camel", "kebab", "dots", "upper"]))
def test_every_usual_spelling_of_every_name_is_found(name, spelling):
    words = name.split("_")
    spelled = {
        "title": " ".join(word.capitalize() for word in words),
        "camel": words[0] + "".join(word.capitalize() for word in words[1:]),
        "kebab": "-".join(words),
        "dots": ".".join(words),
        "upper": name.upper(),
    }[spelling]
    assert looks_like(spelled, OURS) == name


def test_no_line_shows_an_address_or_an_endless_name():
    frame = pd.DataFrame(
        {"source": "amplitude", "event": ["jane@home.example", "x" * 500], "n": [2, 1], "kind": "unknown"}
    ).assign(looks_like=None)
    [line] = told(frame)
    assert "jane" not in line and len(line) < 400


def check(place):
    return check_events(place.lake, place.ledger, place.policy, place.run)


def of_names(place, *names: tuple[str, float]) -> None:
    """A sound batch, in which these shares of the events have another name."""

    def change(frame: pd.DataFrame) -> None:
        frame["user_id"] = [f"u{n % 9}" for n in range(len(frame))]
        start = 0
        for name, share in names:
            rows = round(len(frame) * share)
            frame.loc[start : start + rows - 1, "event"] = name
            start += rows

    place.events([50] * 20, change=change)
    place.batch(1000, 1000)


def test_unknown_names_are_listed_with_counts_and_near_misses(place):
    of_names(place, ("Checkout Started", 0.01), ("page_seen", 0.02), ("robots_seen", 0.01))
    summary = check(place)
    assert summary["warnings"] == [
        "batch-amplitude: unknown event `Checkout Started` (10 events) looks like `checkout_started`: map it in "
        "vocabulary, or name it in events.ignore",
        "batch-amplitude: 2 unknown event names, 30 events: `page_seen` 20, `robots_seen` 10; map them in vocabulary, "
        "or name them in events.ignore",
    ]
    assert summary["events"] == {
        "unknown": {"page_seen": 20, "Checkout Started": 10, "robots_seen": 10},
        "ignored": {},
    }


def test_what_is_ignored_stops_nothing_and_is_counted(place):
    of_names(place, ("[Amplitude] Element Clicked", 0.6), ("session_start", 0.3), ("my.clicks", 0.05))
    place.policy = place.policy.changed(events__ignore=[*place.policy.events.ignore, "my.*"])
    summary = check(place)
    assert (summary["passed"], summary["warnings"]) == (True, [])
    assert summary["events"]["ignored"] == {"[Amplitude] Element Clicked": 600, "session_start": 300, "my.clicks": 50}


def test_a_batch_of_ignored_events_alone_passes(place):
    of_names(place, ("session_start", 1.0))
    assert check(place)["passed"]


def test_a_pattern_is_plain_text_but_for_the_star():
    policy = read_policy().changed(events__ignore=["a.b", "[x] *", "*_end"])
    fits = [name for name in ("a.b", "axb", "[x] y", "x y", "[x]", "day_end", "day_ends") if
            policy.events.ignored.fullmatch(name)]  # fmt: skip
    assert fits == ["a.b", "[x] y", "day_end"]
    assert not read_policy().changed(events__ignore=[]).events.ignored.fullmatch("")


def test_ignoring_everything_is_refused():
    with pytest.raises(ValidationError, match="fits every event"):
        read_policy().changed(events__ignore=["*"])


def record(place, projects: dict[str, int], elsewhere: int = 0) -> None:
    counts = {"in": 1000 + elsewhere, "kept": 1000, "duplicates": 0, "quarantined": {"other_project": elsewhere}}
    place.ledger.record_batch("b1", place.run.run_id, "amplitude", counts | {"projects": projects})


def test_several_projects_are_told_and_other_projects_are_no_damage(place):
    place.events([50] * 20)
    record(place, {"300300": 700, "300999": 300})
    [line] = check(place)["warnings"]
    assert "2 projects count together (300300 700, 300999 300)" in line
    place.policy = place.policy.changed(events__projects=[300300])
    record(place, {"300300": 1000, "300999": 4000}, elsewhere=4000)
    assert check(place)["warnings"] == ["batch-amplitude: rows of other projects, left out: 300999 4,000"]
