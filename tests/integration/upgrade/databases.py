"""Databases of earlier releases: their tables by the migrations up to theirs, and rows from one database in another."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from penstock.registry.db import database

MIGRATIONS = Path(database.__file__).with_name("migrations")


def make_tables(url: str, revision: str) -> None:
    """Give an empty database the tables of that revision."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def copy_rows(source: str, target: str) -> None:
    """Copy the rows of all tables, whose tables are the same."""
    here, there = sa.create_engine(source), sa.create_engine(target)
    found, wanted = tables_of(source), tables_of(target)
    assert found.tables.keys() == wanted.tables.keys()
    with here.connect() as reading, there.begin() as writing:
        for name, table in wanted.tables.items():
            if name != "alembic_version":
                rows = [dict(row._mapping) for row in reading.execute(sa.select(found.tables[name]))]
                writing.execute(table.delete())
                if rows:
                    writing.execute(table.insert(), rows)
    for engine in (here, there):
        engine.dispose()


def tables_of(url: str) -> sa.MetaData:
    """The tables of a database, as it has them."""
    engine, found = sa.create_engine(url), sa.MetaData()
    found.reflect(engine)
    engine.dispose()
    return found
