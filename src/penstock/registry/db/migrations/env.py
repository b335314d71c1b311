"""Runs the steps on the connection that ``database.py`` hands over, inside its transaction."""

from alembic import context

from penstock.registry.db.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
