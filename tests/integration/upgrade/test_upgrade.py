"""This release opens what earlier ones have left: their homes, and their fleets, gateway by gateway under traffic."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from tests import harness, postgres
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.upgrade.databases import copy_rows, make_tables, tables_of
from tests.integration.upgrade.stored_home import (
    CALLS,
    HOMES,
    LABELLED,
    MODEL,
    Facts,
    predict,
    read_facts,
    send_labels,
    unpack,
)

ARCHIVES = sorted(HOMES.glob("*.tar.xz"))
PREVIOUS = shlex.split(os.environ.get("PENSTOCK_PREVIOUS_RELEASE", ""))
"""The command of the previous release, where the nightly job has installed it; else this one runs in its place."""


def known_part(document: Any, known: Any) -> Any:
    """The part of a document that has the fields of another one."""
    if not isinstance(document, dict) or not isinstance(known, dict):
        return document
    return {name: known_part(document[name], value) for name, value in known.items() if name in document}


def assert_as_left(server: Server, facts: Facts) -> None:
    """What the earlier release knew is known, and its audit holds; a policy may have more fields now."""
    left = {"digests": facts.digests, "route": facts.route, "policy": facts.policy}
    assert known_part(read_facts(server), left) == left
    actions = [entry["action"] for entry in server.as_owner("GET", "/admin/v1/audit?limit=100").json()["entries"]]
    assert {"route.set", "policy.set", "alias.move"} <= set(actions), actions


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def test_a_home_of_an_earlier_release_opens(archive: Path, tmp_path: Path) -> None:
    facts = unpack(archive, tmp_path / "home")
    with harness.running(None, tmp_path) as server:
        assert_as_left(server, facts)
        assert send_labels(server, range(LABELLED, CALLS)) == {"accepted": CALLS - LABELLED, "unmatched": 0}
        assert predict(server, CALLS) == 200
        for command in (("audit", "verify"), ("models", "verify")):
            done = harness.run_command(*command, folder=tmp_path)
            assert done.returncode == 0, done.stdout + done.stderr
        listed = harness.run_command("keys", "list", folder=tmp_path)
        assert re.search(r"^\S*app\b.*caller", listed.stdout, re.MULTILINE), listed.stdout
        assert sum(count_exported(version, tmp_path) for version in facts.digests) == facts.captured + 1


def count_exported(version: str, folder: Path) -> int:
    """How many captured requests of a version the command line exports."""
    table = folder / f"{version}.parquet"
    done = harness.run_command("capture", f"{MODEL}:{version}", "-o", str(table), folder=folder)
    assert done.returncode == 0, done.stderr
    return int(pq.read_metadata(table).num_rows)


@contextmanager
def calling(servers: list[Server]) -> Iterator[list[str]]:
    """Calls to whichever of these gateways is first in the list, until the block ends; those that failed."""
    ended, failed = Event(), list[str]()

    def call() -> None:
        number = 1000
        while not ended.is_set():
            try:
                status = predict(servers[0], number)
            except OSError as error:
                failed.append(repr(error))
            else:
                failed.extend([str(status)] if status != 200 else [])
            number += 1

    caller = Thread(target=call)
    caller.start()
    try:
        yield failed
    finally:
        ended.set()
        caller.join(PATIENCE_S)


def fleet_of(server: Server) -> list[Mapping[str, Any]]:
    gateways: list[Mapping[str, Any]] = server.as_owner("GET", "/admin/v1/fleet").json()["gateways"]
    return [gateway for gateway in gateways if gateway["state"] == "alive"]


@pytest.mark.parametrize("archive", ARCHIVES[-1:], ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def test_a_fleet_is_upgraded_gateway_by_gateway(archive: Path, tmp_path: Path) -> None:
    facts = unpack(archive, tmp_path / "stored")
    with postgres.running() as database:
        database.create("penstock")
        url = database.url("penstock")
        make_tables(url, facts.revision)
        copy_rows(f"sqlite:///{tmp_path / 'stored/registry.db'}", url)
        env = {"PENSTOCK_BLOBS": str(tmp_path / "stored/blobs"), "PENSTOCK_MONITOR__GATEWAYS": "2"}

        def launch(name: str, program: list[str]) -> Server:
            return harness.launch(None, tmp_path / name, "--registry", url, env=env, program=program)

        old = [launch("first", PREVIOUS), launch("second", PREVIOUS)]
        servers, running = list(old), list(old)
        try:
            with calling(servers) as failed:
                for name in ("first", "second"):
                    leaving = servers.pop(0)
                    assert leaving.stop() == 0
                    new = launch(name, [])
                    running.append(new)
                    assert_as_left(new, facts)
                    servers.append(new)
                wait_until(lambda: len(fleet_of(servers[0])) == 2, PATIENCE_S, "a fleet of two")
            assert failed == []
        finally:
            for server in running:
                server.kill()


def find_breaks(old: sa.MetaData, new: sa.MetaData) -> list[str]:
    """What a release that knows only the old tables could no longer read or write."""
    found = []
    for name, table in old.tables.items():
        if name not in new.tables:
            found.append(f"{name} is gone")
            continue
        columns = new.tables[name].c
        for column in table.c:
            if column.name not in columns:
                found.append(f"{name}.{column.name} is gone")
            elif repr(columns[column.name].type) != repr(column.type):
                found.append(f"{name}.{column.name} has another type")
        added = [column for column in columns if column.name not in table.c]
        found += [
            f"{name}.{item.name} has no default" for item in added if not item.nullable and not item.server_default
        ]
    return found


@pytest.mark.parametrize("archive", ARCHIVES[-1:], ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def test_migrations_since_a_release_only_add(archive: Path, tmp_path: Path) -> None:
    facts = unpack(archive, tmp_path / "home")
    then, now = f"sqlite:///{tmp_path / 'then.db'}", f"sqlite:///{tmp_path / 'now.db'}"
    make_tables(then, facts.revision)
    make_tables(now, "head")
    assert find_breaks(tables_of(then), tables_of(now)) == []


def test_what_a_migration_may_not_do_is_found() -> None:
    old, new = sa.MetaData(), sa.MetaData()
    sa.Table("kept", old, sa.Column("a", sa.Integer), sa.Column("b", sa.Text), sa.Column("c", sa.Integer))
    sa.Table("dropped", old, sa.Column("a", sa.Integer))
    sa.Table(
        "kept",
        new,
        sa.Column("a", sa.Integer),
        sa.Column("b", sa.Integer),
        sa.Column("required", sa.Integer, nullable=False),
        sa.Column("defaulted", sa.Integer, nullable=False, server_default="0"),
        sa.Column("optional", sa.Integer),
    )
    assert find_breaks(old, new) == [
        "kept.b has another type",
        "kept.c is gone",
        "kept.required has no default",
        "dropped is gone",
    ]
