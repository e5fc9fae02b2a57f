"""The Amplitude stand-in cuts its answers from the zips of a folder."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sandbox.conftest import Sandbox


def write(folder: Path, name: str, *hours: tuple[str, int]) -> None:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for day, hour in hours:
            line = json.dumps({"uuid": f"{day}-{hour}"}).encode()
            archive.writestr(f"100/100_{day}_{hour}#0.json.gz", gzip.compress(line))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exports")
    write(made, "2025-02.zip", ("2025-02-28", 9), ("2025-02-28", 23))
    write(made, "2025-03.zip", ("2025-03-01", 0), ("2025-03-03", 6), ("2025-03-03", 7), ("2025-03-03", 8))
    return made


@pytest.fixture(scope="module")
def amplitude(start: Callable[..., Sandbox], folder: Path) -> Sandbox:
    one = start(folder)
    one.admin("clock", {"now": "2025-03-03T10:00:00+00:00"})
    return one


def uuids(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [json.loads(gzip.decompress(archive.read(name)))["uuid"] for name in archive.namelist()]


def test_both_ends_are_included_across_files(amplitude: Sandbox) -> None:
    answer = amplitude.export("20250228T23", "20250301T00")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    assert uuids(answer.content) == ["2025-02-28-23", "2025-03-01-0"]


def test_an_hour_is_there_two_hours_after_its_end(amplitude: Sandbox) -> None:
    assert uuids(amplitude.export("20250303T00", "20250303T23").content) == ["2025-03-03-6", "2025-03-03-7"]
    assert amplitude.export("20250303T08", "20250303T09").status_code == 404


def test_no_data_is_not_found(amplitude: Sandbox) -> None:
    assert amplitude.export("20240101T00", "20240102T00").status_code == 404


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("2025-03-01", "2025-03-02"),
        ("20250301", "20250302"),
        ("20250301T24", "20250302T00"),
        ("20250302T00", "20250301T00"),
        ("20240101T00", "20250101T00"),
        ("", ""),
    ],
)
def test_a_wrong_range_is_refused(amplitude: Sandbox, first: str, last: str) -> None:
    assert amplitude.export(first, last).status_code == 400


def test_the_key_is_checked(amplitude: Sandbox) -> None:
    assert amplitude.export("20250228T00", "20250301T00", auth=("sandbox-amplitude", "wrong")).status_code == 403


def test_too_much_at_once_times_out(amplitude: Sandbox) -> None:
    amplitude.admin("limits", {"export_hours": 24})
    try:
        assert amplitude.export("20250227T22", "20250228T22").status_code == 504
        assert amplitude.export("20250227T23", "20250228T22").status_code == 200
    finally:
        amplitude.admin("limits", {"export_hours": 8760})


def test_a_zip_that_grows_is_read_again(amplitude: Sandbox, folder: Path) -> None:
    assert amplitude.export("20250225T00", "20250225T23").status_code == 404
    write(folder, "2025-02b.zip", ("2025-02-25", 5))
    os.utime(folder / "2025-02b.zip", (1, 1))
    assert uuids(amplitude.export("20250225T00", "20250225T23").content) == ["2025-02-25-5"]
