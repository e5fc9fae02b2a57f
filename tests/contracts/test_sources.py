"""What every registered source keeps to, whatever its vendor, its format and its shape.

A source made of the standard pieces (dated files of a known format) needs nothing here; any other brings a maker of its
answers, tests/contracts/makers/{name}.py, with `write(folder, hour, rows)` and `spoil(folder, hour)`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from onetouch import sources
from onetouch.lake import Lake
from onetouch.policy import Policy, read_policy
from onetouch.sources import ERASED, ExportError, Source

from tests.contracts.home import AN_HOUR, AS_OF, Home
from tests.contracts.sent import BAD, HOUR, Sent

TOYS = {name: f"tests.contracts.toys.{name}" for name in ("toy_csv", "toy_own")}


@pytest.fixture(params=[*sources.SOURCES, *TOYS])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Source:
    if request.param in TOYS:
        monkeypatch.setitem(sources.SOURCES, request.param, TOYS[request.param])
    return sources.source_of(request.param)


@pytest.fixture
def home(source: Source, tmp_path: Path) -> Home:
    return Home(tmp_path, source)


@pytest.fixture
def other_home(source: Source, tmp_path: Path) -> Callable[..., Home]:
    return lambda name, **limits: Home(tmp_path / name, source, **limits)


def test_it_says_what_it_is(source: Source) -> None:
    assert source.connection == f"{source.name}_default"
    for part in ("event_id", "event", "occurred_at", "received_at", "user_id", "times"):
        assert getattr(source.shape, part), part
    sources.check_sources(Policy.model_validate(read_policy().document() | {"sources": [source.name]}))


def test_an_event_is_what_happened(home: Home) -> None:
    at, received = HOUR - timedelta(days=3, minutes=7), HOUR + timedelta(minutes=2)
    home.write(Sent("e1", "pricing_viewed", "ana", "acme", at, received, {"page": "pro"}))
    assert home.stage()["kept"] == 1
    [event] = home.events().to_dict("records")
    assert (event["event_id"], event["source"], event["event"]) == ("e1", home.source.name, "pricing_viewed")
    assert (event["user_id"], event["account_id"], event["account_basis"]) == ("ana", "acme", "group")
    assert (event["occurred_at"], event["received_at"]) == (at, received)
    if home.source.shape.properties:
        assert '"pro"' in event["properties"]


def test_an_address_that_is_the_user_names_the_company(home: Home) -> None:
    home.write(Sent("e1", user="jo@mail.acme.co.uk"), Sent("e2", user="jo@gmail.com"))
    home.stage()
    assert set(home.events()["account_id"]) == {"acme.co.uk", "user:jo@gmail.com"}


def test_the_window_is_that_of_receipt(home: Home, other_home: Callable[..., Home]) -> None:
    for n in range(-2, 6):
        home.write(Sent(f"e{n}", received=HOUR + n * AN_HOUR, at=HOUR - 50 * AN_HOUR), hour=HOUR + n * AN_HOUR)
    into, limits = "raw/window", home.policy.events
    settings = home.policy.source_settings(home.source.name)
    fetched = home.source.fetch(
        home.lake, into, HOUR, HOUR + 3 * AN_HOUR, limits, folder=home.folder, settings=settings
    )
    texts = [text for batch in home.source.read(home.lake, into, fetched, limits) for text in batch["text"].to_pylist()]
    found = {n for n in range(-2, 6) for text in texts if f"e{n}".encode() in text}
    assert found == {0, 1, 2} and len(texts) == 3
    nothing = home.source.fetch(
        home.lake, "raw/none", HOUR + 90 * AN_HOUR, HOUR + 99 * AN_HOUR, limits, folder=home.folder, settings=settings
    )
    assert nothing.files == [], "no data for a window is no error"


def test_windows_that_follow_each_other_lose_and_repeat_nothing(home: Home) -> None:
    for n in range(6):
        home.write(Sent(f"e{n}", received=HOUR + n * AN_HOUR, at=HOUR + n * AN_HOUR), hour=HOUR + n * AN_HOUR)
    kept = [home.stage(HOUR + n * AN_HOUR)["kept"] for n in (2, 3, 6)]
    assert kept == [2, 1, 3]
    assert sorted(home.events()["event_id"]) == [f"e{n}" for n in range(6)]


def test_read_again_it_gives_the_same_events(home: Home, other_home: Callable[..., Home]) -> None:
    rows = [Sent("e1"), Sent(None, user="a"), Sent(None, user="a"), Sent(None, user="b"), BAD]
    again = other_home("again")
    for one in (home, again):
        one.write(*rows)
    assert home.stage() == again.stage()
    assert sorted(home.events()["event_id"]) == sorted(again.events()["event_id"])
    # the overlap of the next window reads them once more
    assert home.stage(AS_OF + AN_HOUR)["kept"] == 0
    assert len(home.events()) == 4


def test_two_equal_rows_without_an_id_stay_two(home: Home) -> None:
    home.write(Sent(None), Sent(None), Sent("e1"), Sent("e1"))
    rows = home.stage()
    assert (rows["kept"], rows["duplicates"]) == (3, 1)


def test_a_bad_row_is_kept_with_its_reason_and_costs_no_other(home: Home) -> None:
    home.write(Sent("e1"), BAD, Sent("e2"), BAD, Sent("e3"))
    rows = home.stage()
    assert rows["kept"] == 3 and sum(rows["quarantined"].values()) == 2
    [path] = home.lake.list("quarantine")
    shown = pq.read_table(path, partitioning=None).to_pandas()
    assert shown["reason"].notna().all() and shown["file"].notna().all() and shown["line"].is_unique


def test_a_file_that_cannot_be_read_is_refused_with_a_reason_and_stops_no_other(home: Home) -> None:
    home.write(Sent("e1"), hour=HOUR + AN_HOUR)
    home.maker.spoil(home.folder, HOUR)
    run = home.extract()
    manifest = sources.extracted(home.source.name, home.lake, run)
    assert manifest is not None and manifest["refused"] and all(r["reason"] for r in manifest["refused"])
    rows = home.stage()
    assert rows["kept"] == 1 and sum(rows["quarantined"].values()) == len(manifest["refused"])


def test_neither_folder_nor_connection_is_an_error_that_names_the_fix(home: Home) -> None:
    with pytest.raises(ExportError, match=f"{home.source.name}.*(folder|{home.source.connection})"):
        home.source.fetch(home.lake, "raw/x", HOUR, AS_OF, home.policy.events)
    for folder in (home.folder / "absent", home.folder):
        with pytest.raises(ExportError, match=f"{home.source.name}.*{folder.name}.*give"):
            home.source.fetch(home.lake, "raw/x", HOUR, AS_OF, home.policy.events, folder=folder)


def test_a_row_beyond_the_limit_is_put_aside(other_home: Callable[..., Home]) -> None:
    home = other_home("short", max_line_bytes=2_000)
    home.write(Sent("e1"), Sent("e2", user="x" * 3_000), Sent("e3"))
    rows = home.stage()
    assert (rows["kept"], rows["quarantined"]) == (2, {"line_too_long": 1})


def test_a_file_beyond_the_limit_is_refused(other_home: Callable[..., Home]) -> None:
    home = other_home("small", max_file_bytes=500)
    home.write(*(Sent(f"e{n}", user=f"user {n:050}") for n in range(50)))
    home.write(hour=HOUR + AN_HOUR)
    rows = home.stage()
    assert rows["kept"] == 0 and rows["quarantined"]["file_too_large"] == 1
    assert not home.raw() or all(Path(file.name).stat().st_size < 5_000 for file in home.raw())


def test_nothing_outside_the_folder_is_read_or_written(home: Home, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret: Path = home.maker.write(outside, HOUR, [Sent("secret")])
    (home.folder / secret.name).symlink_to(secret)
    home.write(Sent("e1"), hour=HOUR + AN_HOUR)
    before = {path: path.read_bytes() for path in (*outside.rglob("*"), *home.folder.rglob("*")) if path.is_file()}
    rows = home.stage()
    assert (rows["kept"], rows["quarantined"]) == (1, {"unsafe_path": 1})
    assert home.events()["event_id"].tolist() == ["e1"]
    assert before == {p: p.read_bytes() for p in (*outside.rglob("*"), *home.folder.rglob("*")) if p.is_file()}


def test_what_was_received_is_kept_as_it_was(home: Home) -> None:
    home.write(*(Sent(f"e{n}") for n in range(5)))
    home.extract()
    [first] = home.raw()
    with first.open() as file:
        content = file.read()
    other = Lake(home.place / "other")
    fetched = home.source.fetch(
        other, "raw/x", HOUR, AS_OF, home.policy.events, folder=home.folder,
        settings=home.policy.source_settings(home.source.name),
    )  # fmt: skip
    assert [Path(other.path("raw/x", f.path)).read_bytes() for f in fetched.files] == [content]


def test_a_row_can_be_taken_out_of_a_raw_file_and_all_others_keep_their_numbers(home: Home) -> None:
    home.write(*(Sent(f"e{n}", user=f"u{n}", properties={"n": f"näme {n}"}) for n in range(6)))
    run = home.extract()
    before = _texts(home)
    gone, changed = sorted(before)[1], sorted(before)[3]

    def change(number: int, text: bytes) -> bytes | None:
        if number == gone:
            return ERASED.encode()
        return text.replace(b"u3", b"forgotten:9") if number == changed else None

    folder = f"raw/{home.source.name}/{run.run_id}"
    [path] = [Path(file.name).relative_to(home.lake.path(folder)).as_posix() for file in home.raw()]
    assert home.source.format.rewrite(home.lake, folder, path, home.policy.events, change) == 2
    after = _texts(home)
    assert after[gone] == ERASED.encode() and b"forgotten:9" in after[changed]
    assert {n: t for n, t in after.items() if n not in (gone, changed)} == {
        n: t for n, t in before.items() if n not in (gone, changed)
    }
    assert home.source.format.rewrite(home.lake, folder, path, home.policy.events, change) == 0
    rows = home.stage()
    assert rows["quarantined"] == {"forgotten": 1} and rows["kept"] == 5


def _texts(home: Home) -> dict[int, bytes]:
    [file] = home.raw()
    return dict(home.source.format.texts(file, home.policy.events))


def test_its_own_words_mean_what_the_policy_says_of_it(home: Home) -> None:
    document = home.policy.document()
    _settings(document, home.source)["vocabulary"] = {"Klick": "pricing_viewed"}
    policy = Policy.model_validate(document)
    assert policy.vocabulary_of(home.source.name)["Klick"].as_ == "pricing_viewed"
    assert "Klick" not in policy.vocabulary and policy.vocabulary_version != home.policy.vocabulary_version


def _settings(document: dict[str, Any], source: Source) -> dict[str, Any]:
    if isinstance(document["sources"], list):
        document["sources"] = {name: {} for name in document["sources"]}
    settings: dict[str, Any] = document["sources"][source.name]
    return settings
