"""How a command's process ends: with its own exit code and all of its output, whatever native threads are doing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

READS_ON = """
import io, sys, threading, time
import pyarrow.parquet as pq

class Slow(io.FileIO):
    def read(self, *size):
        time.sleep(0.05)
        return super().read(*size)

    def readinto(self, into):
        time.sleep(0.05)
        return super().readinto(into)

def reads_on(path):
    while True:
        with Slow(path) as file:
            pq.read_table(file)

threading.Thread(target=reads_on, args=[sys.argv.pop()], daemon=True).start()
time.sleep(0.3)
from onetouch.cli import app
app()
"""
"""A program beside whose command Arrow's threads go on reading a file of Python's."""


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["policy", "check", "--json"], 0, "good"),
        (["status"], 1, "holds no ledger"),
    ],
)
def test_no_native_thread_outlives_a_command(tmp_path: Path, command: list[str], code: int, says: str) -> None:
    pd.DataFrame({"n": range(1000)}).to_parquet(tmp_path / "read.parquet")
    policy = tmp_path / "policy.yaml"
    policy.write_text("name: mine\n")
    arguments = [*command, *([str(policy)] if "check" in command else []), "--home", str(tmp_path / "none")]
    for _ in range(3):  # without care it aborts nearly every time
        run = [sys.executable, "-c", READS_ON, *arguments, str(tmp_path / "read.parquet")]
        done = subprocess.run(run, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        assert says in done.stdout + done.stderr


def test_an_error_nobody_expected_is_shown_and_ends_with_1() -> None:
    program = """
from onetouch.cli import app

@app.command()
def breaks() -> None:
    raise KeyError("nobody expects it")

app(["breaks"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, "KeyError: 'nobody expects it'" in done.stderr) == (1, True)
