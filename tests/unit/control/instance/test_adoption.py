"""Which orphaned instances are gone on with, replaced, cleared away or left alone."""

import pytest

from penstock.control.instance.adoption import AdoptionPlan, Orphan, RequestedInstance, choose
from penstock.control.instance.options import WorkerOptions, encode_options, make_fingerprint, options_in

OPTIONS = WorkerOptions("127.0.0.1", 8000, 8001)
SAME = Orphan("same", OPTIONS, alive=True, serving=True)
OTHER = Orphan("other", OPTIONS, alive=True, serving=True)
ELSEWHERE = Orphan("other", WorkerOptions("127.0.0.1", 9000, 9001), alive=True, serving=True)
ON_EVERY_HOST = Orphan("other", WorkerOptions("0.0.0.0", 8000, 9001), alive=True, serving=True)
ON_ANOTHER_HOST = Orphan("other", WorkerOptions("127.0.0.2", 8000, 8001), alive=True, serving=True)
LEAVING = Orphan("same", OPTIONS, alive=True, serving=False)
DEAD = Orphan("same", OPTIONS)
TORN = Orphan("", None, alive=True, serving=True)


@pytest.mark.parametrize(
    ("orphans", "http", "grpc", "choice"),
    [
        ([], 8000, 8001, AdoptionPlan()),
        ([SAME], 8000, 8001, AdoptionPlan(adopt=0)),
        ([SAME], 0, 0, AdoptionPlan(adopt=0)),
        ([SAME], 0, 8001, AdoptionPlan(adopt=0)),
        ([SAME], 8000, 9999, AdoptionPlan(replace=(0,))),
        ([SAME], 7000, 7001, AdoptionPlan()),
        ([OTHER], 8000, 8001, AdoptionPlan(replace=(0,))),
        ([OTHER], 0, 0, AdoptionPlan()),
        ([OTHER], 8001, 0, AdoptionPlan(replace=(0,))),
        ([LEAVING], 8000, 8001, AdoptionPlan(replace=(0,))),
        ([LEAVING], 0, 0, AdoptionPlan()),
        ([ELSEWHERE], 8000, 8001, AdoptionPlan()),
        ([ON_EVERY_HOST], 8000, 8001, AdoptionPlan(replace=(0,))),
        ([ON_ANOTHER_HOST], 8000, 8001, AdoptionPlan()),
        ([DEAD, TORN], 8000, 8001, AdoptionPlan(stale=(0, 1))),
        ([DEAD, OTHER, SAME, SAME], 8000, 8001, AdoptionPlan(adopt=2, replace=(1, 3), stale=(0,))),
    ],
)
def test_the_choice_between_adopting_and_starting(
    orphans: list[Orphan], http: int, grpc: int, choice: AdoptionPlan
) -> None:
    assert choose(orphans, RequestedInstance("same", "127.0.0.1", http, grpc)) == choice


def test_the_fingerprint_looks_at_everything_but_the_ports() -> None:
    mark = make_fingerprint(OPTIONS, "/models", "1.0")
    assert mark == make_fingerprint(WorkerOptions("127.0.0.1", 1, 2), "/models", "1.0")
    others = (
        make_fingerprint(WorkerOptions("127.0.0.1", 8000, 8001, workers=2), "/models", "1.0"),
        make_fingerprint(OPTIONS, "/others", "1.0"),
        make_fingerprint(OPTIONS, "/models", "1.1"),
    )
    assert mark not in others


def test_options_survive_being_stored() -> None:
    assert options_in(encode_options(OPTIONS)) == OPTIONS
