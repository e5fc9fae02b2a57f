"""The search after an erasure: an identifier is found wherever a file of the lake still holds it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from onetouch.lake import Lake, Marks, search
from onetouch.sources import unpacked

MARK = "person-4711"
NOISE = os.urandom(1 << 20).hex().encode()  # several blocks, also compressed
ROWS = b'{"user_id": "' + MARK.encode() + b'"}\n' + NOISE


def packed_zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("pack", [gzip.compress, packed_zstd], ids=["gzip", "zstd"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content, id="whole"),
        pytest.param(lambda content: content[: len(content) * 3 // 4], id="ends early"),
        pytest.param(lambda content: content[:-64] + bytes(64), id="damaged at its end"),
    ],
)
def test_a_compressed_file_is_searched_as_far_as_it_can_be_read(
    tmp_path: Path, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "raw" / "vendor" / "run"
    folder.mkdir(parents=True)
    (folder / "hour.json").write_bytes(damage(pack(ROWS)))
    assert search(Lake(tmp_path), Marks({MARK: "forgotten:1"}, "forgotten:1"), unpacked).found == [
        "raw/vendor/run/hour.json"
    ]
    assert search(Lake(tmp_path), Marks({"person-4712": "forgotten:1"}, "forgotten:1"), unpacked).found == []


def test_every_one_of_several_gzip_files_in_one_is_searched(tmp_path: Path) -> None:
    (tmp_path / "hours.gz").write_bytes(gzip.compress(b"{}\n") + gzip.compress(b"{}\n" * 999) + gzip.compress(ROWS))
    assert search(Lake(tmp_path), Marks({MARK: "forgotten:1"}, "forgotten:1"), unpacked).found == ["hours.gz"]
