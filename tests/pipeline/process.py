"""Runs the pipeline in a process of its own that can be killed at a given effect.

Importing the libraries takes seconds, so one parent imports them once and forks a child for each run. An effect
is anything another process could see: a request sent or answered, a transaction committed, a file put in place.
The child dies by SIGKILL at the effect asked for, which no `finally` and no `except` can soften.

Reads one JSON object a line: {home, exports, environment, as_of, now, die_at, stages}; answers with one:
{code, effects, error}.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback
import urllib.request
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import great_expectations  # noqa: F401 - imported before the forks
import ibis.backends.duckdb
import ibis.backends.sql.compilers.duckdb  # noqa: F401
import onetouch
import requests
import sqlalchemy
import sqlglot.generators.duckdb
import sqlglot.parsers.duckdb  # noqa: F401
from onetouch import stages
from onetouch.connections import from_environment
from onetouch.workspace import open_workspace


class Effects:
    """Counts effects and dies at one of them."""

    def __init__(self, die_at: int | None) -> None:
        self.count, self.die_at = 0, die_at

    def happens(self, *_: Any) -> None:
        self.count += 1
        if self.count == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """Makes one call two effects: about to happen, and happened without the caller knowing yet."""
        original: Callable[..., Any] = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self.happens()
            result = original(*args, **kwargs)
            self.happens()
            return result

        setattr(owner, name, called)


def run(command: dict[str, Any], answer: int) -> None:
    """The child: runs the stages, then tells how many effects there were."""
    environment = command["environment"]
    workspace = open_workspace(
        command["home"],
        command.get("policy"),
        exports=command["exports"],
        connection=partial(from_environment, environ=environment),
        environ=environment,
    )
    effects = Effects(command.get("die_at"))
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", effects.happens)
    effects.around(requests.Session, "send")
    effects.around(urllib.request.OpenerDirector, "open")
    effects.around(os, "replace")
    error = None
    as_of, now = (datetime.fromisoformat(command[k]) for k in ("as_of", "now"))
    try:
        stages.run_all(workspace, as_of, now)
    except Exception as failure:  # noqa: BLE001 - reported to the test whatever it is
        error = f"{type(failure).__name__}: {failure}\n{traceback.format_exc()}"
    os.write(answer, json.dumps({"effects": effects.count, "error": error}).encode())


def main() -> None:
    """Forks a child for every line of standard input."""
    for module in pkgutil.walk_packages(onetouch.__path__, "onetouch."):
        if ".migrations." not in module.name and not module.name.endswith("__main__"):  # these run when imported
            importlib.import_module(module.name)
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    print("ready", flush=True)
    for line in sys.stdin:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            run(json.loads(line), write)
            os.close(write)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        result = json.loads(said) if said else {"effects": None, "error": None}
        print(json.dumps(result | {"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
