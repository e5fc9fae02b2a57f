"""A row keeps what is readable: an odd character or value of a property costs itself, and is counted."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onetouch import events
from onetouch.events.mending import UNREADABLE, mend

from tests.events.stager import AS_OF, Stager
from tests.sources.answers import event, text

PLACES = [("event_properties",)]


def raw(properties: bytes, **changes):
    """A row whose properties are exactly these bytes; with an id of its own it is no event that was sent again."""
    sent = {"$insert_id": changes["uuid"]} if changes.get("uuid") else {}
    row = event(1, event_type="checkout_started", event_properties="HERE", **sent, **changes)
    return text(row).replace(b'"HERE"', properties)


ODD = {
    "a lone high surrogate": (rb'{"note": "cut \ud83d", "plan": "pro"}', "lone_surrogate", {"note": "cut �"}),
    "a lone low surrogate": (rb'{"note": "\udc00 x"}', "lone_surrogate", {"note": "� x"}),
    "surrogates the wrong way round": (rb'{"note": "\ude00\ud83d"}', "lone_surrogate", {"note": "��"}),
    "a surrogate in a key": (rb'{"no\ud83dte": 1}', "lone_surrogate", {"no�te": 1}),
    "a control character": (b'{"note": "a\x01b"}', "control_characters", {"note": "a\x01b"}),
    "a raw tab and a raw return": (b'{"note": "a\tb\rc"}', "control_characters", {"note": "a\tb\rc"}),
    "a raw zero": (b'{"note": "a\x00b"}', "control_characters", {"note": "a\x00b"}),
    "Latin-1": (b'{"city": "M\xfcnchen"}', "invalid_utf8", {"city": "M�nchen"}),
    "half a character": (b'{"city": "\xf0\x9f\x98"}', "invalid_utf8", {"city": "�"}),
    "an escape JSON does not know": (rb'{"path": "C:\x", "quote": "it\'s"}', "broken_escape", {"quote": "it�'s"}),
    "NaN": (b'{"amount": NaN, "plan": "NaN"}', "not_a_number", {"amount": None, "plan": "NaN"}),
    "infinities": (b'{"a": Infinity, "b": [-Infinity, 1]}', "not_a_number", {"a": None, "b": [None, 1]}),
    "nan in small letters": (b'{"a": nan, "b": -inf}', "not_a_number", {"a": None, "b": None}),
    "several at once": (b'{"a": "\xff\x01\\ud83d", "b": NaN}', "invalid_utf8", {"a": "�\x01�", "b": None}),
    "properties that are a list": (b'["x"]', "unknown_shape", {}),
    "properties that are a text": (b'"{}"', "unknown_shape", {}),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    stager = Stager(tmp_path_factory.mktemp("odd"))
    rows = [raw(properties, uuid=f"odd-{n}") for n, (properties, _, _) in enumerate(ODD.values())]
    stager.receive([line for n, row in enumerate(rows) for line in (row, event(100 + n))])
    return stager.stage(), stager


@pytest.mark.parametrize("number", range(len(ODD)), ids=list(ODD))
def test_what_is_odd_costs_itself_and_not_the_event(odd, number):
    _, stager = odd
    _, _, expected = [*ODD.values()][number]
    found = stager.events().set_index("event_id").loc[f"odd-{number}"]
    assert (found["event"], found["user_id"]) == ("checkout_started", "u1")
    properties = json.loads(found["properties"])
    assert {name: properties[name] for name in expected} == expected
    assert number != 0 or properties["plan"] == "pro"


def test_it_is_counted_by_what_was_mended(odd):
    summary, _ = odd
    n = 2 * len(ODD)
    assert summary["rows"] == {"in": n, "kept": n, "anonymous": 0, "duplicates": 0, "quarantined": {}}
    reasons = [reason for _, reason, _ in ODD.values()]
    assert summary["repaired"] == {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def test_a_cart_too_long_is_left_out_and_what_stands_beside_it_is_kept(stager):
    cart = [{"sku": f"sku-{n}", "price": n} for n in range(4_000)]
    rows = [
        event(1, event_properties={"cart": cart, "plan": "pro", "seats": 5}),
        event(2, event_properties={"order": {"cart": cart, "total": 7}, "plan": "pro"}),
        event(3, event_properties={"note": "x" * 70_000}),
        event(4, event_properties={f"p{n}": "x" * 500 for n in range(200)} | {"plan": "pro"}),
        event(5, event_properties={"p": "v" * 65_000}),
    ]
    stager.receive(rows)
    summary = stager.stage()
    assert summary["rows"]["kept"] == 5 and summary["repaired"] == {"value_too_long": 4}
    kept = [json.loads(properties) for properties in stager.events()["properties"]]
    assert kept[:3] == [{"plan": "pro", "seats": 5}, {"order": {"total": 7}, "plan": "pro"}, {}]
    assert kept[3]["plan"] == "pro" and 120 < len(kept[3]) < 201
    assert kept[4] == rows[4]["event_properties"]
    assert all(len(properties) <= 65_536 for properties in stager.events()["properties"])


def test_marks_and_padding_cost_nothing(stager):
    stager.receive(
        [b"\xef\xbb\xbf" + text(event(1)), event(2), b"\xef\xbb\xbf" + text(event(3)), b"\0\0" + text(event(4))]
    )
    summary = stager.stage()
    assert summary["rows"]["kept"] == 4 and summary["repaired"] == {}


def test_a_mended_checkout_is_seen_right_before_a_task_is_written(stager):
    stager.receive([event(1), raw(rb'{"note": "\ud83d"}', uuid="odd", groups={"company": ["acme"]})])
    run = stager.run()

    def fetch(source, start, end):
        from onetouch import sources

        return sources.fetch_rows(source, stager.policy, start, end, folder=stager.folder)

    found = events.fresh_checkouts(stager.lake, stager.policy, run, ["acme"], AS_OF, fetch)
    assert list(found) == ["acme"]


def test_more_odd_rows_than_are_mended_at_once(stager, monkeypatch):
    monkeypatch.setattr("onetouch.events.canonical._AGAIN_CHARS", 3_000)
    rows = [raw(b'{"n": NaN}', uuid=f"{n:03}") if n % 3 else event(n) for n in range(300)]
    stager.receive(rows)
    summary = stager.stage()
    assert summary["rows"]["kept"] == 300 and summary["repaired"] == {"not_a_number": 200}


def test_a_row_without_an_id_has_the_same_id_when_it_is_read_again(stager):
    twins = [raw(b'{"n": "\x02"}', uuid=None)] * 2
    stager.receive(twins, name="a.zip")
    stager.receive([*twins, event(2)], name="b.zip")
    rows = stager.stage()["rows"]
    assert (rows["kept"], rows["duplicates"]) == (3, 2)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(row=st.dictionaries(st.text(max_size=4), anything, max_size=5), ascii=st.booleans())
def test_what_is_json_stays_as_it_is(row, ascii):
    written = json.dumps(row, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    lone = any(0xD800 <= ord(c) < 0xE000 for c in json.dumps(row, ensure_ascii=False))
    if not lone:
        assert mend(written, PLACES, 1 << 20) == (written.decode(), "")


any_text = st.text(max_size=6, alphabet=st.characters(exclude_categories=[]))


@given(row=st.dictionaries(any_text, st.floats() | any_text, max_size=5), ascii=st.booleans())
def test_what_programs_write_for_json_is_json_after_mending(row, ascii):
    written = json.dumps(row, ensure_ascii=ascii).encode("utf-8", "surrogatepass")  # with NaN and lone surrogates
    mended, _ = mend(written, PLACES, 1 << 20)
    found = json.loads(mended, parse_constant=lambda word: pytest.fail(f"{word} was kept"))
    json.dumps(found, ensure_ascii=False).encode()  # fails for a lone surrogate
    assert all(value is None or value in row.values() or UNREADABLE in str(value) for value in found.values())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(properties=st.dictionaries(st.text(max_size=5), st.floats() | st.text(max_size=6) | anything, max_size=5))
def test_no_properties_that_a_program_writes_cost_the_event(tmp_path_factory, properties):
    stager = Stager(tmp_path_factory.mktemp("home"))
    row = json.dumps(event(1) | {"event_properties": properties})
    assert stager.staged([row.encode()])["kept"] == 1
    json.loads(stager.events()["properties"].item(), parse_constant=lambda word: pytest.fail(f"{word} was kept"))


def test_mending_takes_time_in_proportion_to_the_text():
    noise = random.Random(3)
    for pattern in ('"\\', '\\"', '"', '{"a":', "NaN,"):
        long = (pattern * 400_000)[:1_000_000].encode() + bytes(noise.randrange(32) for _ in range(100))
        mend(long, PLACES, 65_536)
