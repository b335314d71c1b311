"""The deadline of a call is the smallest limit that its caller has stated, in whatever way."""

import itertools
from typing import Any, cast

import pytest

from penstock.api.common.request_builder import TIMEOUT, build_call
from penstock.core.deadlines import deadline_ns
from penstock.core.labels import Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature, TensorSpec
from penstock.engine.model import Model
from penstock.engine.session import closed_run
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import DEFAULT
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.version_info import VersionIdentity

BEGAN_NS, DEFAULT_NS = 1_000, 60_000_000
STATED = (None, 0, 5_000_000, 90_000_000)


@pytest.mark.parametrize(("body", "field", "transport"), list(itertools.product(STATED, repeat=3)))
def test_the_smallest_limit_is_the_deadline(body: int | None, field: int | None, transport: int | None) -> None:
    slot = Slot.in_process()
    plane = DataPlane(slot, lambda block: Totals.of([slot], block), cast(Any, None), DEFAULT_NS)
    signature = Signature([TensorSpec("x", "FP32", (-1, 1))], [TensorSpec("y", "FP32", (-1, 1))], batching=True)
    loaded = LoadedVersion(VersionIdentity("m", "1"), Model(closed_run, signature), ModelOptions(), {}, slot.block(1))
    fields = {} if field is None else {TIMEOUT: b"%d" % (field // 1_000_000)}
    decision = loaded, Route.STABLE, ()
    call = build_call(plane, decision, Protocol.GRPC, DEFAULT, fields, BEGAN_NS, "7", [], None, body, transport)
    assert call.deadline_ns == deadline_ns(BEGAN_NS, (body, field, transport), DEFAULT_NS)
