"""Alembic's revisions of the ledger, run by `Ledger.migrate()`."""
