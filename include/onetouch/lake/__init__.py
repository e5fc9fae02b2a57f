"""Where tables live (`Lake`), and which engine reads, computes and writes them (`Lake.engine`)."""

from onetouch.lake.engines import ENGINES, ISO_8601, Engine
from onetouch.lake.lake import Lake

__all__ = ["ENGINES", "ISO_8601", "Engine", "Lake"]
