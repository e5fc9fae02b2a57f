"""The small company with a history, of `tests/audit/fixtures.py`."""

from tests.audit.fixtures import company, copy, files, last

__all__ = ["company", "copy", "files", "last"]
