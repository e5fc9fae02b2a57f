"""Processes that only deliver: a parent imports the libraries and forks a child for each, which SIGKILL may end.

Reads one JSON object a line: {url, lake, ledger, run, at_once, kill_after}; answers with a list of {code, error,
seconds}, one for each child.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pkgutil import resolve_name
from typing import Any

from onetouch.crm import CRMS, connect
from onetouch.delivery import deliver_tasks
from onetouch.lake import Lake
from onetouch.ledger import Ledger

from judges.faults.crms import SIDES


def deliver(command: dict[str, Any]) -> None:
    """Runs the delivery stage, and nothing else."""
    with Ledger(command["ledger"]) as ledger:
        run = ledger.run(command["run"])
        policy = ledger.policy(run.policy_version)
        crm = connect(SIDES[policy.crm.system].connection(command["url"]), policy, stopped=ledger.stopped)
        deliver_tasks(Lake(command["lake"]), ledger, policy, run, crm, recheck=lambda ids: {}, held=None)


def _child(command: dict[str, Any], answer: int, go: int) -> None:
    os.read(go, 1)
    error = None
    try:
        deliver(command)
    except Exception as failure:  # noqa: BLE001 - reported to the parent, whatever it is
        error = f"{type(failure).__name__}: {failure}"
    os.write(answer, (error or "").encode()[:4000])
    os._exit(0)


def _run(command: dict[str, Any]) -> list[dict[str, Any]]:
    children = []
    go_read, go_write = os.pipe()
    for _ in range(command["at_once"]):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            _child(command, write, go_read)
        os.close(write)
        children.append((child, read))
    begun = time.perf_counter()
    os.write(go_write, b"x" * len(children))
    answers = []
    for child, read in children:
        left = None if command["kill_after"] is None else max(0.0, command["kill_after"] + begun - time.perf_counter())
        if not select.select([read], [], [], left)[0]:  # a child writes or closes its pipe when it ends
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read, "rb") as pipe:
            error = pipe.read().decode() or None
        code = os.waitstatus_to_exitcode(status)
        answers.append({"code": code, "error": error, "seconds": time.perf_counter() - begun})
    os.close(go_read)
    os.close(go_write)
    return answers


def main() -> None:
    """Answers every line of standard input."""
    for _, client in CRMS.values():
        resolve_name(client)  # the children need not import it each
    print("[]", flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
