"""Every right request is answered as ONNX Runtime answers it, bit for bit, over every transport."""

from pathlib import Path

import pytest

from tests.conformance import oracle
from tests.conformance.cases import CASES, Case
from tests.conformance.wire import TRANSPORTS, Ask, RequestedOutput, Transport

CARRIED = [
    pytest.param(kind, case, id=f"{kind.name}-{case.name}")
    for kind in TRANSPORTS
    for case in CASES
    if case.carried_by(kind.name)
]


@pytest.mark.parametrize(("transport", "case"), CARRIED, indirect=["transport"])
def test_the_answer_is_that_of_the_model_itself(transport: Transport, case: Case, zoo_folder: Path) -> None:
    requested = [RequestedOutput(name) for name in case.requested] or None
    ask = Ask(case.model, case.inputs, version=case.version, id="case-7", requested=requested)
    answer = transport.infer(ask)
    oracle.assert_same(answer, oracle.run(case.path(zoo_folder), case.inputs, case.requested))
    assert answer.model == case.model
    assert answer.id == "case-7"
    assert answer.facts["x-request-id"] == "case-7"
    assert answer.version == answer.facts["penstock-model-version"]
    assert answer.version == (case.version or _newest(case, zoo_folder))
    assert answer.facts["penstock-route"] == ("pinned" if case.version else "stable")


def _newest(case: Case, folder: Path) -> str:
    return case.path(folder).relative_to(folder).parts[1] if case.file else "1"
