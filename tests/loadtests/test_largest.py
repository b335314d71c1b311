"""The largest legal requests: the table of them holds every codec path, and a server outlives all of them."""

import json
from collections.abc import Iterator

import pytest

from loadtests import echoes
from loadtests.largest import list_largest
from loadtests.largest_data import Largest
from loadtests.send import SEGMENT, is_expected, open_region, send
from loadtests.stall import find_longest, read_stalls
from penstock.api.common import content_coding
from penstock.api.grpc.contents import FIELDS
from penstock.api.grpc.framing import FORMATS
from penstock.api.rest.feedback_body import MOST_FEEDBACK, MOST_LABELS
from penstock.core.limits import RequestLimits
from penstock.core.tensors import NUMPY_TYPES, RAW_ONLY
from tests import harness
from tests.harness import Server
from tests.integration.control.watch import metric

LIMITS = RequestLimits(4 << 20, 1 << 20, 8 << 20, 1 << 18, 1 << 14, 1 << 20)
"""Smaller than the defaults, so that all kinds together take some seconds."""

KINDS = list_largest(LIMITS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("largest")
    echoes.place(folder / "models")
    bounds = {name: getattr(LIMITS, name) for name in LIMITS.__slots__ if not name.endswith("_setting")}
    env = {f"PENSTOCK_LIMITS__{name.upper()}": str(bound) for name, bound in bounds.items()}
    env |= {"PENSTOCK_SHARED_MEMORY": f'["/{SEGMENT}"]', "PENSTOCK_GRPC_OUTPUTS": "mirror"}
    with harness.running(folder / "models", folder, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def addresses(server: Server) -> Iterator[dict[str, str]]:
    found = {"http": server.http, "grpc": server.grpc, "ops": server.ops}
    with open_region(found, LIMITS.max_body_bytes):
        yield found


def test_every_codec_path_has_a_largest_request() -> None:
    """Whoever adds a datatype, a form of contents or a coding adds its largest request too."""
    in_json = [datatype for datatype in NUMPY_TYPES if datatype not in RAW_ONLY]
    expected = {f"rest json {datatype}" for datatype in in_json}
    expected |= {f"rest binary {datatype}" for datatype in NUMPY_TYPES}
    expected |= {f"grpc raw {datatype}" for datatype in NUMPY_TYPES}
    expected |= {f"grpc typed {datatype}" for datatype in FIELDS}
    codings = [coding.decode() for coding in content_coding.FORMATS]
    expected |= {f"rest {form} {coding}" for form in ("json", "binary") for coding in codings}
    expected |= {f"rest answer {coding}" for coding in ("gzip", "deflate")}
    expected |= {f"grpc message {coding}" for coding in FORMATS}
    expected |= {"rest feedback", "stream raw", "stream typed"}
    expected |= {f"grpc answer {form} numbers" for form in ("raw", "typed")}
    for path in ("parameters", "header fields", "classification", "shared memory"):
        expected |= {f"rest {path}", f"grpc {path}"}
    assert expected <= {kind.kind for kind in KINDS}


@pytest.mark.parametrize("limits", [LIMITS, RequestLimits()], ids=["small", "default"])
def test_generated_feedback_stays_within_the_limit(limits: RequestLimits) -> None:
    [build] = [item.build for item in list_largest(limits) if item.kind == "rest feedback"]
    answers = json.loads(build().bodies[0])["feedback"]
    assert len(answers) <= MOST_FEEDBACK
    assert sum(len(answer["label"]) for answer in answers) <= MOST_LABELS


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("one", KINDS, ids=lambda item: item.kind)
def test_the_largest_requests_are_answered_and_larger_ones_refused(
    one: Largest, server: Server, addresses: dict[str, str]
) -> None:
    workers = server.workers
    ended = send(one.build(), addresses, timeout_s=60)
    assert is_expected(one, ended), ended
    assert server.child_pids() and set(workers) <= set(server.child_pids())
    assert metric(server, "penstock_worker_restarts_total") == 0


def test_the_longest_stall_is_the_bucket_that_has_grown() -> None:
    before = {0.001: 5, 0.05: 2, 1.0: 1}
    assert find_longest(before, before) == 0.0
    assert find_longest(before, {0.001: 9, 0.05: 3, 1.0: 1}) == 0.05
    assert find_longest({}, {0.001: 1, 0.05: 0}) == 0.001


def test_stalls_are_read_from_the_metrics(server: Server) -> None:
    assert {0.001, 0.05, 1.0} <= read_stalls(server.ops).keys()
