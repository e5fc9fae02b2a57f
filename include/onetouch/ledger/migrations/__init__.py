"""Alembic's revisions of the ledger, run by `Ledger.migrate()`."""

from importlib.resources import files


def head() -> str:
    """The newest revision, from the file names in `versions` (v0001_…), without importing Alembic."""
    return max(file.name[1:5] for file in files("onetouch.ledger.migrations.versions").iterdir() if file.name[0] == "v")
