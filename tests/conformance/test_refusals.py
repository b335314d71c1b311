"""Every wrong request gets the contract's code and a sentence that helps, on every transport; the server lives on."""

import pytest

from tests.conformance.mistakes import MISTAKES, SAFE, Mistake
from tests.conformance.wire import Refused, Transport


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_listed(transport: Transport, mistake: Mistake) -> None:
    with pytest.raises(Refused) as refusal:
        transport.infer(mistake.ask)
    assert refusal.value.code == mistake.code, refusal.value.text
    for word in mistake.fragments:
        assert word in refusal.value.text
    assert_reveals_no_secrets(refusal.value.text)
    transport.infer(SAFE)


def assert_reveals_no_secrets(text: str) -> None:
    """One line without paths, file names and traces."""
    assert text.strip() == text
    assert "\n" not in text
    for secret in ("Traceback", ".onnx", ".py", ".cc", ".pbtxt", ".txt", "/tmp", "/home", "site-packages"):
        assert secret not in text, text
