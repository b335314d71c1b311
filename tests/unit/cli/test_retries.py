"""Verbs that follow something outlast a gateway that is away for a moment, and nothing else."""

from collections.abc import Iterator

import pytest

from penstock.cli.client import CallFailed
from penstock.cli.console import ExitCode
from penstock.cli.retries import OUTAGE_S, RETRY_S, read_through_outage

AWAY = CallFailed("no answer", ExitCode.UNAVAILABLE)


class Gateway:
    """Answers with one outcome after another; a clock moves only while a caller sleeps."""

    def __init__(self, *outcomes: str | CallFailed) -> None:
        self._outcomes: Iterator[str | CallFailed] = iter(outcomes)
        self.now = 0.0

    def read(self) -> str:
        outcome = next(self._outcomes, AWAY)
        if isinstance(outcome, CallFailed):
            raise outcome
        return outcome

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def read_from(gateway: Gateway) -> str:
    return read_through_outage(gateway.read, gateway.clock, gateway.sleep)


def test_an_answer_is_returned_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    gateway = Gateway("fine")
    assert (read_from(gateway), gateway.now, capsys.readouterr().err) == ("fine", 0.0, "")


def test_a_short_outage_is_reported_once_and_outlasted(capsys: pytest.CaptureFixture[str]) -> None:
    gateway = Gateway(AWAY, AWAY, AWAY, "back")
    assert (read_from(gateway), gateway.now) == ("back", 3 * RETRY_S)
    assert capsys.readouterr().err == f"no answer; retrying for up to {OUTAGE_S:g} s\n"


def test_a_long_outage_ends_the_verb() -> None:
    gateway = Gateway()
    with pytest.raises(CallFailed) as raised:
        read_from(gateway)
    assert (raised.value, gateway.now) == (AWAY, OUTAGE_S)


@pytest.mark.parametrize("code", [code for code in ExitCode if code is not ExitCode.UNAVAILABLE])
def test_every_other_failure_ends_the_verb_at_once(code: ExitCode) -> None:
    gateway = Gateway(CallFailed("refused", code), "fine")
    with pytest.raises(CallFailed, match="refused"):
        read_from(gateway)
    assert gateway.now == 0.0
