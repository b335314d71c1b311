"""Dialects are found by their paths, each path has one requirement, and they are off unless they are set."""

from collections.abc import Iterator

import pytest

from penstock.api.http1.request_head import read_head
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.dialects.base import DialectSetup
from penstock.api.rest.dialects.table import DialectTable, build_dialect, default_model, path_pattern
from penstock.core.access.endpoints import DIALECTS
from penstock.core.errors import NotFound, NotReady
from penstock.serving.routing_table import RoutingTable
from tests.fuzz.targets import World
from tests.unit.api.rest.dialects.worlds import DialectClient

ROWS = {"instances": [[1, 2, 3]]}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def setup_of(world: World, *names: str, model: str = "") -> DialectSetup:
    return DialectSetup(world.plane, names, model, "1")


@pytest.mark.parametrize("name", DIALECTS)
def test_every_path_of_a_dialect_has_a_requirement_and_every_requirement_a_path(world: World, name: str) -> None:
    dialect = build_dialect(name, setup_of(world, name))
    assert {*(path.endpoint for path in dialect.infer_paths), *dialect.endpoints()} == DIALECTS[name].keys()
    table = DialectTable(setup_of(world, name), CorsPolicy(()))
    assert len(table.endpoints()) == len(dialect.endpoints())


@pytest.mark.parametrize(
    ("template", "path", "found"),
    [
        ("/v1/models/{model}:predict", b"/v1/models/m:predict", {"model": b"m"}),
        ("/v1/models/{model}:predict", b"/v1/models/m:PREDICT/", {"model": b"m"}),
        ("/v1/models/{model}:predict", b"/v1/models/a%3Ab:predict", {"model": b"a%3Ab"}),
        ("/v1/models/{model}:predict", b"/v1/models/a:b:predict", None),
        ("/v1/models/{model}:predict", b"/v1/models/a/b:predict", None),
        ("/v1/models/{model}:predict", b"/v1/models/:predict", None),
        ("/v1/models/{model}/labels/{label}:predict", b"/v1/models/m/labels/l:predict", {"model": b"m", "label": b"l"}),
        ("/invocations", b"/invocations", {}),
        ("/invocations", b"/INVOCATIONS", None),
        ("/score.json", b"/scoreXjson", None),
    ],
)
def test_patterns_of_paths(template: str, path: bytes, found: dict[str, bytes] | None) -> None:
    match = path_pattern(template).fullmatch(path)
    assert (None if match is None else match.groupdict()) == found


def test_dialects_are_off_by_default(world: World) -> None:
    client = DialectClient(world)
    for path in ("/v1/models", "/v1/models/row", "/ping", "/invocations"):
        assert client.ask(path)[0] == 404
    assert client.ask("/v1/models/row:predict", ROWS)[0] == 404


def test_the_only_model_is_the_default_one(world: World) -> None:
    with pytest.raises(NotFound, match="several are served; set default_model"):
        default_model(setup_of(world))
    assert default_model(setup_of(world, model="row")) == "row"
    table = world.plane.routing_table
    try:
        world.plane.routing_table = RoutingTable({"row": table.models["row"]})
        assert default_model(setup_of(world)) == "row"
        world.plane.routing_table = RoutingTable()
        with pytest.raises(NotReady, match="no model is served yet"):
            default_model(setup_of(world))
    finally:
        world.plane.routing_table = table


def test_another_method_does_not_predict(world: World) -> None:
    table = DialectTable(setup_of(world, "kserve_v1"), CorsPolicy(()))
    head = read_head(b"GET /v1/models/row:predict HTTP/1.1\r\nhost: x\r\n\r\n")
    assert table.find_target(head) is None
    assert head.endpoint is None


def test_a_head_that_was_not_found_cannot_be_opened(world: World) -> None:
    table = DialectTable(setup_of(world, "kserve_v1"), CorsPolicy(()))
    head = read_head(b"POST /v2/models/row/infer HTTP/1.1\r\nhost: x\r\n\r\n")
    with pytest.raises(TypeError):
        table.open(world.http(), head, 0, world.plane.callers.public)
