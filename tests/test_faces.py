"""Faces of rooms: everything they promise is there, and nothing is imported before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import onetouch
import pytest
from onetouch.faces import Face

ROOMS = sorted(
    f"onetouch.{file.parent.name}"
    for file in Path(onetouch.__file__).parent.glob("*/__init__.py")
    if "\nshow(__name__)" in file.read_text()
)
HEAVY = {"duckdb", "great_expectations", "ibis", "matplotlib", "pandas", "scipy", "simple_salesforce", "slack_sdk"}


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_some() -> None:
    assert {"onetouch.audit", "onetouch.delivery", "onetouch.signals"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_face_promises_is_there(room: str) -> None:
    face = sys.modules.get(room) or __import__(room, fromlist=["_"])
    assert isinstance(face, Face)
    for name in face.__all__:
        assert not isinstance(getattr(face, name), ModuleType), name
        assert name in dir(face)
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'nothing'"):
        face.nothing  # noqa: B018


def test_a_face_imports_no_file_before_it_is_asked() -> None:
    program = f"import sys; {'; '.join(f'import {room}' for room in ROOMS)}; print(*sys.modules)"
    ours = {name for name in python(program).split() if name.startswith("onetouch")}
    assert ours == {"onetouch", "onetouch.faces", *ROOMS}


def test_a_file_called_as_what_it_offers_does_not_hide_it() -> None:
    program = """
import onetouch.audit.explain, onetouch.audit
print(type(onetouch.audit.explain).__name__, type(sys.modules["onetouch.audit.explain"]).__name__)
from onetouch.audit import replay
print(type(replay).__name__)
"""
    assert python(f"import sys{program}").split() == ["function", "module", "function"]


def test_a_process_that_forks_imports_everything_at_once() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(onetouch.__file__).parents[1] / "airflow_config")!r})
sys.argv = ["airflow", "scheduler"]
import airflow_local_settings
from onetouch.faces import Face
faces = [face for face in sys.modules.values() if isinstance(face, Face)]
print(len(faces) > 12, all(name in vars(face) for face in faces for name in face.__all__))
print({HEAVY!r} - set(sys.modules))
"""
    assert python(program).split() == ["True", "True", "set()"]


def test_a_name_listed_only_once_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_room").mkdir()
    (tmp_path / "odd_room" / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nfrom onetouch.faces import show\n"
        "if TYPE_CHECKING:\n    from odd_room.file import here\n__all__ = ['there']\nshow(__name__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="odd_room: here, there: in __all__ or under TYPE_CHECKING only"):
        import odd_room  # noqa: F401
