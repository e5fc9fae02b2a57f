"""Worlds to run the pipeline in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from onetouch import simulation

from tests.pipeline.world import AS_OF, SEED, START, Pipeline, World, until_up


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("company")
    simulation.simulate(folder, seed=SEED, start=START, until=AS_OF, accounts=120)
    return folder


@pytest.fixture
def make_world(tmp_path: Path, company: Path) -> Iterator[Callable[[str], World]]:
    """Makes fresh worlds: the company's records loaded into a sandbox of their own, nothing run yet."""
    running: list[subprocess.Popen[bytes]] = []

    def make(name: str) -> World:
        own = tmp_path / name
        shutil.copytree(company, own / "company")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (tmp_path / f"{name}.log").open("wb") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "onetouch.sandbox", "--home", str(own / "sandbox"), "--port", str(port)],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        world = World(own / "home", f"http://127.0.0.1:{port}", own / "company")
        until_up(world, tmp_path / f"{name}.log")
        world.clock(AS_OF)
        records = json.loads((company / "crm.json").read_text())
        requests.post(f"{world.url}/_sandbox/load", json=records, timeout=60).raise_for_status()
        return world

    yield make
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def pipeline() -> Iterator[Pipeline]:
    process = Pipeline()
    yield process
    process.close()
