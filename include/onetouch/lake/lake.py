"""The lake: Parquet files under one root, each written completely or not at all."""

from __future__ import annotations

import os
import posixpath
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import quote

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from onetouch.lake import formats
from onetouch.lake.engines import DEFAULT_ENGINE, Engine, open_engine

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+,#-]{0,200}")


class Lake:
    """Tables as Parquet under `uri` (a folder, or any URI fsspec opens: s3://…, gs://…).

    A file is named after its content, so writing it twice is the same as writing it once. Readers never see a partial
    file: a file is written under a temporary name that begins with a dot, in the same folder, and then renamed.
    """

    def __init__(self, uri: str | os.PathLike[str], engine: str = DEFAULT_ENGINE) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(os.fspath(uri))
        self.local = isinstance(self.fs, LocalFileSystem)
        self.engine_name = engine

    @property
    def filesystems(self) -> Sequence[Any]:
        """The filesystems an engine needs to read the lake, besides the local one."""
        return [] if self.local else [self.fs]

    def path(self, *parts: str) -> str:
        """The path of a file or folder of the lake. Raises ValueError for a part that could lead out of the lake."""
        for part in parts:
            for step in part.split("/"):
                if not _SAFE.fullmatch(step):
                    raise ValueError(f"lake path part {step!r}: only letters, digits and _ . = + , # - are allowed")
        return posixpath.join(self.root, *parts)

    def exists(self, *parts: str) -> bool:
        """Whether the file or folder exists."""
        return bool(self.fs.exists(self.path(*parts)))

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
        target = path
        folder, name = posixpath.split(target)
        self.fs.makedirs(folder, exist_ok=True)
        draft = posixpath.join(folder, f".{name}.{uuid.uuid4().hex[:8]}")
        try:
            yield draft
            if self.local:
                with open(draft, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(draft, target)
            else:
                self.fs.mv(draft, target)
        except BaseException:
            if self.fs.exists(draft):
                self.fs.rm(draft)
            raise

    def write(self, table: pa.Table | pd.DataFrame, *parts: str) -> str:
        """Writes a table as one Parquet file, with the number of its format, and returns its path."""
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False)
        table = formats.stamped(table, *parts)
        with self.writing(*parts) as draft, self.fs.open(draft, "wb") as file:
            pq.write_table(table, file, compression="zstd")
        return self.path(*parts)

    def read(self, *parts: str) -> pd.DataFrame:
        """One Parquet file as a frame in today's format (`read_table`). Raises FileNotFoundError."""
        frame: pd.DataFrame = formats.read_table(self, *parts).to_pandas()
        return frame

    def remove(self, *parts: str) -> None:
        """Removes a file or folder if it exists."""
        path = self.path(*parts)
        if self.fs.exists(path):
            self.fs.rm(path, recursive=True)

    def engine(
        self, memory: str = "4GB", threads: int | None = None, large: bool = False
    ) -> AbstractContextManager[Engine]:
        """A session of the lake's engine in UTC with bounded memory, on `threads` cores (None: all).

        `large`: the tables it keeps are expected to be larger than memory.
        """
        return open_engine(self.engine_name, self, memory=memory, threads=threads, large=large)


def key(value: str) -> str:
    """`value` as one safe path part (percent-encoded, so different values stay different)."""
    encoded = quote(value, safe="").replace("%", "+").replace("~", "+7E")
    return encoded if _SAFE.fullmatch(encoded) else f"x{uuid.uuid5(uuid.NAMESPACE_OID, value).hex}"
