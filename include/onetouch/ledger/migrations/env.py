"""Runs the revisions on the connection of `Ledger.migrate()`, inside its transaction."""

from alembic import context

from onetouch.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    version_table="ledger_revision",  # another application's revisions may live in the same database
)
with context.begin_transaction():
    context.run_migrations()
