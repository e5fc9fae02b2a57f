"""Files under one root, in a folder or an object store, each written completely or not at all."""

from __future__ import annotations

import os
import posixpath
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import fsspec
from fsspec.implementations.local import LocalFileSystem

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+,#-]{0,200}")


class Files:
    """Files under `uri` (a folder, or any URI fsspec opens: s3://…, gs://…).

    A file is named after its content, so writing it twice is the same as writing it once. Readers never see a partial
    file: a file is written under a temporary name that begins with a dot, in the same folder, and then renamed.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(os.fspath(uri))
        self.local = isinstance(self.fs, LocalFileSystem)

    @property
    def filesystems(self) -> Sequence[Any]:
        """The filesystems an engine needs to read these files, besides the local one."""
        return [] if self.local else [self.fs]

    def path(self, *parts: str) -> str:
        """The path of a file or folder. Raises ValueError for a part that could lead out of the lake."""
        for part in parts:
            for step in part.split("/"):
                if not _SAFE.fullmatch(step):
                    raise ValueError(f"lake path part {step!r}: only letters, digits and _ . = + , # - are allowed")
        return posixpath.join(self.root, *parts)

    def exists(self, *parts: str) -> bool:
        """Whether the file or folder exists."""
        return bool(self.fs.exists(self.path(*parts)))

    def folders(self, folder: str) -> list[str]:
        """The names of the folders and files directly in `folder`, sorted; empty if it does not exist."""
        base = posixpath.join(self.root, folder)
        if not self.fs.exists(base):
            return []
        found = (posixpath.basename(path.rstrip("/")) for path in self.fs.ls(base, detail=False))
        return sorted(name for name in found if not name.startswith("."))

    def sizes(self, *parts: str) -> list[int]:
        """The bytes of each file at or below a path, drafts as well; empty if there is none."""
        path = self.path(*parts)
        return [info["size"] for info in self.fs.find(path, detail=True).values()] if self.fs.exists(path) else []

    def list(self, folder: str, suffix: str = ".parquet") -> list[str]:
        """Full paths of all finished files below `folder`, sorted; empty if there are none."""
        base = posixpath.join(self.root, folder)
        if not self.fs.exists(base):
            return []
        found = self.fs.find(base)
        names = sorted(p for p in found if p.endswith(suffix) and not posixpath.basename(p).startswith("."))
        return names if self.local else [self.fs.unstrip_protocol(name) for name in names]

    @contextmanager
    def writing(self, *parts: str) -> Iterator[str]:
        """Gives a temporary path to write to; on a clean exit it is renamed to the file, otherwise it is removed."""
        with self.replacing(self.path(*parts)) as draft:
            yield draft

    @contextmanager
    def replacing(self, path: str) -> Iterator[str]:
        """`writing` for a file given by its full path, as `list` returns it."""
        folder, name = posixpath.split(path)
        self.fs.makedirs(folder, exist_ok=True)
        draft = posixpath.join(folder, f".{name}.{uuid.uuid4().hex[:8]}")
        try:
            yield draft
            if self.local:
                with open(draft, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(draft, path)
            else:
                self.fs.mv(draft, path)
        except BaseException:
            if self.fs.exists(draft):
                self.fs.rm(draft)
            raise

    def remove(self, *parts: str) -> None:
        """Removes a file or folder if it exists; another process may do so at the same time."""
        path = self.path(*parts)
        with suppress(FileNotFoundError):
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)


def key(value: str) -> str:
    """`value` as one safe path part (percent-encoded, so different values stay different)."""
    encoded = quote(value, safe="").replace("%", "+").replace("~", "+7E")
    return encoded if _SAFE.fullmatch(encoded) else f"x{uuid.uuid5(uuid.NAMESPACE_OID, value).hex}"
