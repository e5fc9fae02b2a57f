"""The real open-source data through the command line: every row accounted for, damaged or not."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "oss" / "amplitude"
ROWS = 21_907

pytestmark = [
    pytest.mark.skipif(not REAL.exists(), reason=f"real data is not at {REAL}"),
    pytest.mark.timeout(1800),  # up to four commands, on a machine that others share
]


def onetouch(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onetouch.cli", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def run(
    home: Path, exports: Path, tmp_path: Path, as_of: str = "2025-01-01T00:00:00Z"
) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    accounts = tmp_path / "accounts.csv"
    accounts.write_text("account_id,name,domain\n")  # the accounts come from the data's own groups
    done = onetouch(
        home,
        *("run", "--source", "amplitude", "--exports", str(exports), "--accounts", str(accounts)),
        *("--as-of", as_of, "--policy", str(ROOT / "docs/examples/policy-open-source.yaml")),
        *("--dry-run", "--json"),
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done


def balanced(rows: dict[str, Any]) -> bool:
    return rows["in"] == rows["kept"] + rows["duplicates"] + sum(rows["quarantined"].values())


def rows_of(member: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(member).splitlines()]


def packed(*rows: dict[str, Any] | bytes) -> bytes:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return gzip.compress(b"\n".join(lines) + b"\n")


QUARTER, QUARTERS_END = sorted(REAL.glob("2023-0[123].zip")), "2023-04-01T00:00:00Z"


def rows_in(paths: list[Path]) -> int:
    """How many rows some of the real answers have."""
    answers = [zipfile.ZipFile(path) for path in paths]
    return sum(len(rows_of(answer.read(name))) for answer in answers for name in answer.namelist())


@pytest.mark.parametrize(
    ("answers", "as_of", "accounts"),
    [
        pytest.param(QUARTER[:1], "2023-02-01T00:00:00Z", 20, id="a month"),
        pytest.param(sorted(REAL.glob("*.zip")), "2025-01-01T00:00:00Z", 100, id="all", marks=pytest.mark.long),
    ],
)
def test_every_real_row_is_accounted_for_and_a_second_run_says_the_same(
    tmp_path: Path, answers: list[Path], as_of: str, accounts: int
) -> None:
    rows = rows_in(answers)
    assert rows == ROWS or answers == QUARTER[:1]
    folder = tmp_path / "answers"
    folder.mkdir()
    for path in answers:
        shutil.copy(path, folder)
    first, done = run(tmp_path / "home", folder, tmp_path, as_of)
    assert done.returncode == 0, done.stderr
    assert first["rows"] == {"in": rows, "kept": rows, "anonymous": 0, "duplicates": 0, "quarantined": {}}
    assert sum(first["decisions"].values()) == first["accounts"] > accounts
    assert first["delivered"] == 0
    listed = onetouch(tmp_path / "home", "decisions", "--json").stdout.splitlines()
    assert len({json.loads(line)["account_id"] for line in listed}) == len(listed) == first["accounts"]

    second, again = run(tmp_path / "home", folder, tmp_path, as_of)
    assert again.returncode == 0, again.stderr
    assert second == first
    assert onetouch(tmp_path / "home", "decisions", "--json").stdout.splitlines() == listed


def damaged(tmp_path: Path) -> Path:
    """The real answers of a quarter and one more zip, full of what goes wrong."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in QUARTER:
        shutil.copy(path, folder)
    with zipfile.ZipFile(REAL / "2023-01.zip") as answer:
        rows = [row for name in sorted(answer.namelist()) for row in rows_of(answer.read(name))]
    good = rows[0]
    new = [{**good, "uuid": f"new-{n}", "$insert_id": f"new-{n}"} for n in range(50)]
    whole = io.BytesIO()
    with gzip.GzipFile(fileobj=whole, mode="wb") as file:
        file.write(b"\n".join(json.dumps(row).encode() for row in new) + b"\n")
    nobody = {**good, "user_id": None, "device_id": None, "amplitude_id": None, "groups": {}, "user_properties": {}}
    with zipfile.ZipFile(folder / "zz-damage.zip", "w") as answer:
        at = "424242/424242_2023-01-31"
        answer.writestr(f"{at}_1#7.json.gz", whole.getvalue()[:-60])
        another = {**good, "uuid": "new-50", "$insert_id": "new-50"}
        answer.writestr(f"{at}_2#7.json.gz", packed(b'{"event_type": "commit", "user_id', another))
        answer.writestr(f"{at}_3#7.json.gz", packed(*({**nobody, "uuid": f"nobody-{n}"} for n in range(5))))
        past, future = "1970-01-01 00:00:00.000000", "2099-01-01 00:00:00.000000"
        answer.writestr(
            f"{at}_4#7.json.gz",
            packed(
                {**good, "uuid": "past", "event_time": past, "client_event_time": past},
                {**good, "uuid": "future", "event_time": future, "client_event_time": future},
            ),
        )
        answer.writestr(f"{at}_5#7.json.gz", packed(*rows[:1000]))
        answer.writestr("../../x", b"out of here")
    return folder


def test_damage_is_named_and_loses_no_good_row(tmp_path: Path) -> None:
    result, done = run(tmp_path / "home", damaged(tmp_path), tmp_path, QUARTERS_END)
    assert done.returncode == 0, done.stderr
    rows = result["rows"]
    assert balanced(rows)
    refused = rows["quarantined"]
    assert rows["duplicates"] == 1000
    assert refused["no_user_and_no_account"] == 5
    assert refused["before_product"] == 1
    assert refused["after_receipt"] == 1
    assert refused["unsafe_path"] == 1
    assert refused["broken_json"] == 1
    assert refused["truncated_file"] == 1
    salvaged = rows["kept"] - rows_in(QUARTER) - 1  # new-50 stands whole behind the broken line
    assert 0 < salvaged < 50, "complete lines of the truncated file are good rows"
    assert sum(result["decisions"].values()) == result["accounts"]
    assert not list(tmp_path.rglob("x")), "the entry named ../../x was written somewhere"


def test_damage_above_the_threshold_stops_before_scoring(tmp_path: Path) -> None:
    folder = damaged(tmp_path)
    with zipfile.ZipFile(folder / "zz-more.zip", "w") as answer:
        answer.writestr("424242/424242_2023-01-31_6#7.json.gz", packed(*[b"{broken"] * 3000))
    result, done = run(tmp_path / "home", folder, tmp_path, QUARTERS_END)
    assert done.returncode == 1
    assert balanced(result["rows"])
    assert result["rows"]["quarantined"]["broken_json"] == 3001
    assert "quarantine" in result["stopped"]
    assert result["decisions"] is None
    assert result["delivered"] is None
    assert not list((tmp_path / "home" / "lake").glob("scores/*"))
