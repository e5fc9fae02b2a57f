"""The package as a wheel: whoever installs it without the repository has all that the library reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from onetouch.cli import app, sandbox
from typer.testing import CliRunner

from tests.conftest import REPOSITORY

BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "include", source / "include", symlinks=True, ignore=ignored)
    done = subprocess.run([sys.executable, "-c", BUILD, folder], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as wheel:
        wheel.extractall(folder / "installed")
    return folder / "installed"


def test_every_file_of_the_library_is_in_it(installed: Path) -> None:
    library = REPOSITORY / "include" / "onetouch"
    files = {
        Path(folder, name).relative_to(library)
        for folder, _, names in os.walk(library, followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }
    assert {Path("py.typed"), Path("policy/default.yaml"), Path("sandbox/templates/style.css")} <= files
    assert files - {path.relative_to(installed / "onetouch") for path in installed.rglob("onetouch/**/*")} == set()


def test_it_works_away_from_the_repository(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("{}")
    program = """
import onetouch.cli, sys
from onetouch.sandbox.in_process import build_org, read_metadata, METADATA
from onetouch.sandbox.pages import Pages
from onetouch.workspace import open_workspace
open_workspace("home")
Pages(None, None).environment.get_template("tasks.html")
assert read_metadata(METADATA)["Account"]
print(onetouch.__file__)
onetouch.cli.app(["policy", "check", "policy.yaml"], standalone_mode=False)
onetouch.cli.app(["status", "--home", "home", "--json"], standalone_mode=False)
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path, checked, status = done.stdout.splitlines()
    assert Path(path).is_relative_to(installed)
    assert checked.startswith("policy.yaml: good")
    assert '"runs": []' in status


def test_the_demo_says_what_it_needs_besides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from onetouch import demo

    monkeypatch.setattr(demo, "ROOT", tmp_path)
    result = CliRunner().invoke(app, ["demo", "--home", str(tmp_path / "home")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "clone the repository" in result.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["sandbox", "demo"])
def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    found = sandbox.find_spec
    monkeypatch.setattr(sandbox, "find_spec", lambda name: None if name in ("starlette", "uvicorn") else found(name))
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 1
    assert result.stderr == "onetouch: starlette, uvicorn: not installed; run pip install 'onetouch[sandbox]'\n"


def test_the_extra_is_what_the_sandbox_needs_and_only_that() -> None:
    listed = [name.replace("-", "_") for name in PROJECT["optional-dependencies"]["sandbox"]]
    assert sorted(listed) == sorted(sandbox.EXTRA)
    assert not set(PROJECT["optional-dependencies"]["sandbox"]) & set(PROJECT["dependencies"])


def test_the_image_installs_the_package_as_users_do() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert "--editable" not in dockerfile
    assert " -e " not in dockerfile
