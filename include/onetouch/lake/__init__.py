"""Where tables live (`Lake`), and which engine reads, computes and writes them (`Lake.engine`)."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.lake.engines import DEFAULT_ENGINE, ENGINES, ISO_8601, Engine
    from onetouch.lake.lake import Lake

__all__ = ["DEFAULT_ENGINE", "ENGINES", "ISO_8601", "Engine", "Lake"]
show(__name__)
