import gzip
import io
import random
import resource
import tracemalloc
import zlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onetouch.policy import read_policy
from onetouch.sources.lines import JsonLines
from onetouch.sources.packing import Cut, Refused, unpack
from onetouch.sources.raw import Refusal
from onetouch.sources.rows import ROWS, Kept

LIMITS = read_policy().events


def read(files, *, limits=LIMITS, batch_bytes=1 << 20, refused=()):
    opened = [Kept(name, partial(io.BytesIO, content)) for name, content in files]
    batches = list(JsonLines().read(opened, refused, limits, batch_bytes))
    assert all(batch.schema == ROWS for batch in batches)
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def limited(**changes):
    return LIMITS.model_copy(update=changes)


@given(
    files=st.lists(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b), max_size=12), max_size=5),
    batch_bytes=st.sampled_from([1, 30, 1 << 20]),
    ended=st.booleans(),
)
def test_lines_are_those_a_plain_reader_sees(files, batch_bytes, ended):
    contents = []
    expected = []
    for number, lines in enumerate(files):
        content = b"\n".join(lines) + (b"\n" if ended else b"")
        contents.append((f"f{number}", gzip.compress(content)))
        for place, line in enumerate(content.split(b"\n"), 1):
            if line not in (b"", b"\r"):
                expected.append((f"f{number}", place, line))
    found = [(f, n, t.removesuffix(b"\n")) for f, n, t, problem in read(contents, batch_bytes=batch_bytes)]
    assert found == expected


@pytest.mark.parametrize("cut_at", [3, 9, 40, 400, 900, -9, -8, -1])
def test_a_truncated_file_gives_its_complete_lines_and_one_row_for_the_rest(cut_at):
    noise = random.Random(4)
    lines = [b'{"n": "%032x"}' % noise.getrandbits(128) for _ in range(80)]
    whole = gzip.compress(b"\n".join(lines) + b"\n")
    part = whole[:cut_at]
    readable = zlib.decompressobj(31).decompress(part)
    rows = read([("f", part)])
    good = [text.removesuffix(b"\n") for _, _, text, problem in rows if problem is None]
    assert good == lines[: len(good)]
    assert len(good) == readable.count(b"\n") + readable.endswith(b"}")
    assert [problem for *_, problem in rows if problem] == ["truncated_file"]
    assert rows[-1][1] == len(good) + 1


def test_bytes_spoilt_in_the_middle_keep_what_came_before():
    noise = random.Random(5)
    lines = [b'{"n": "%0512x"}' % noise.getrandbits(2048) for _ in range(400)]
    whole = bytearray(gzip.compress(b"\n".join(lines) + b"\n"))
    middle = len(whole) // 2
    whole[middle : middle + 64] = b"\xff" * 64
    rows = read([("f", bytes(whole))])
    good = [text.removesuffix(b"\n") for *_, text, problem in rows if problem is None]
    assert [problem for *_, problem in rows if problem] == ["corrupt_file"]
    assert good[:180] == lines[:180]


def test_a_wrong_checksum_loses_no_line():
    whole = bytearray(gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
    whole[-8] ^= 0xFF
    rows = read([("f", bytes(whole))])
    assert [text for *_, text, problem in rows if problem is None] == [b'{"a": 1}\n', b'{"a": 2}\n']
    assert [problem for *_, problem in rows if problem] == ["corrupt_file"]


def test_concatenated_and_padded_streams_are_one_file():
    content = gzip.compress(b"{1}\n{2") + gzip.compress(b"}\n{3}\n") + b"\0" * 17
    assert [text for *_, text, _ in read([("f", content)])] == [b"{1}\n", b"{2}\n", b"{3}\n"]


def test_a_line_too_long_is_one_row_and_its_neighbours_survive():
    noise = random.Random(6).randbytes(5_000_000).replace(b"\n", b"n")
    lines = [b"{before}", noise, b"{between}", noise[:150_000], b"{after}", noise[:3_000_000]]
    rows = read([("f", gzip.compress(b"\n".join(lines)))], limits=limited(max_line_bytes=100_000))
    by_line = {line: (problem, len(text)) for _, line, text, problem in rows}
    assert by_line == {
        1: (None, 9),
        2: ("line_too_long", 65536),
        3: (None, 10),
        4: ("line_too_long", 65536),
        5: (None, 8),
        6: ("line_too_long", 65536),
    }


def test_the_longest_line_allowed_is_a_row():
    rows = read([("f", gzip.compress(b"x" * 100 + b"\n" + b"y" * 101 + b"\n"))], limits=limited(max_line_bytes=100))
    assert [problem for *_, problem in rows] == [None, "line_too_long"]


def test_memory_is_bounded_by_the_line_and_the_batch_not_the_file():
    line = b"x" * 60_000_000
    content = gzip.compress(line + b"\n" + b'{"a": 1}\n' * 4_000_000, compresslevel=1)
    del line
    limits = limited(max_line_bytes=1 << 20, max_compression_ratio=100_000)
    tracemalloc.start()
    count = sum(
        batch.num_rows
        for batch in JsonLines().read([Kept("f", partial(io.BytesIO, content))], [], limits, batch_bytes=1 << 20)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4_000_001
    assert peak < 24 << 20, f"{peak} bytes for a batch of 1 MiB; {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}"


def test_a_refused_file_is_one_row():
    rows = read([], refused=[Refusal("../../x", "unsafe_path", "would leave its folder")])
    assert rows == [("../../x", None, b"would leave its folder", "unsafe_path")]


@pytest.mark.parametrize(
    ("content", "changes", "reason"),
    [
        (b"PK\x03\x04 not gzip at all", {}, "not_gzip"),
        (b"{}", {}, "not_gzip"),
        (gzip.compress(b"\0" * 3_000_000), {"max_compression_ratio": 100}, "compression_bomb"),
        (gzip.compress(b"\0" * 30_000_000), {}, "compression_bomb"),
        (gzip.compress(random.Random(1).randbytes(3_000_000)), {"max_file_bytes": 2_000_000}, "file_too_large"),
    ],
)
def test_what_must_not_be_unpacked_is_refused_before_it_is(content, changes, reason):
    limits = limited(**changes)
    unpacked = 0
    with pytest.raises(Refused) as refused:
        for piece in unpack([content], limits):
            unpacked += len(piece)
    assert refused.value.reason == reason
    assert unpacked <= limits.max_compression_ratio * len(content)


def test_nothing_at_all_is_a_truncated_file():
    with pytest.raises(Cut, match="truncated_file"):
        list(unpack([], LIMITS))
