"""Alembic's revisions of the ledger, run by `Ledger.migrate()`."""

from importlib.resources import files


def head() -> str:
    """The newest revision. The files of `versions` are named after theirs (v0001_…), so Alembic need not be asked."""
    return max(file.name[1:5] for file in files("onetouch.ledger.migrations.versions").iterdir() if file.name[0] == "v")
