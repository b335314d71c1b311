"""What follows from where a gateway listens: its start, its hosts, the control of models, and its warning."""

import asyncio
import logging
from typing import Any

import pytest

from penstock.app.exposure import (
    WARNING_INTERVAL_S,
    InsecurityWarning,
    checked_exposure,
    exposure_of,
    ops_policy,
    repository_control_of,
    trusted_hosts_of,
)
from penstock.app.start_failures import GatewayExitCode, StartFailed
from penstock.config.settings import Settings, load_settings
from penstock.core.access.exposure import Exposure
from penstock.core.access.origins import ANY
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point


def settings(**flags: Any) -> Settings:
    return load_settings(None, flags)


LOOPBACK = ["127.0.0.1", "::1", "localhost", "127.3.2.1"]
BEYOND = ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize("setting", ["host", "ops_host"])
@pytest.mark.parametrize("host", [*LOOPBACK, *BEYOND])
def test_each_address_is_looked_at(setting: str, host: str) -> None:
    exposure = exposure_of(settings(**{setting: host}))
    assert exposure.hosts == ((host,) if host in BEYOND else ())
    assert exposure_of(settings(health_host=host, health_port=0)).hosts == ()
    if host in LOOPBACK:
        assert checked_exposure(settings(**{setting: host})) == exposure
        return
    with pytest.raises(StartFailed) as caught:
        checked_exposure(settings(**{setting: host}))
    assert caught.value.code == GatewayExitCode.USAGE
    assert checked_exposure(settings(**{setting: host}, insecure_no_auth=True)).is_insecure


def test_an_invalid_host_is_refused() -> None:
    with pytest.raises(StartFailed, match="no such host"):
        exposure_of(settings(host="no such host"))


def test_the_permission_alone_opens_nothing() -> None:
    exposure = exposure_of(settings(insecure_no_auth=True))
    assert (exposure.is_insecure, exposure.controls_repository) == (False, True)
    assert InsecurityWarning(exposure).tasks == []


def test_hosts_are_trusted_without_authentication_only_by_their_names() -> None:
    own, known = settings(host="localhost"), settings(trusted_hosts=["ops.example"])
    assert trusted_hosts_of(own, Exposure()) == ("localhost",)
    assert trusted_hosts_of(known, Exposure()) == ("ops.example",)
    assert trusted_hosts_of(settings(), Exposure(authenticates=True)) == (ANY,)
    assert trusted_hosts_of(known, Exposure(authenticates=True)) == ("ops.example",)


def test_a_port_beyond_loopback_takes_addresses() -> None:
    for host, status in (("0.0.0.0", 0), ("127.0.0.1", 421)):
        refusal = ops_policy(settings(), Exposure(), host).refusal(b"GET", b"10.0.0.7:8002", {})
        assert (0 if refusal is None else refusal.status) == status


@pytest.mark.parametrize("chosen", [None, True, False])
@pytest.mark.parametrize(
    ("exposure", "default"),
    [
        (Exposure(), True),
        (Exposure(("0.0.0.0",), is_permitted=True), False),
        (Exposure(("0.0.0.0",), authenticates=True, encrypts=True), True),
    ],
)
def test_the_control_of_models(exposure: Exposure, default: bool, chosen: bool | None) -> None:
    expected = default if chosen is None else chosen
    assert repository_control_of(settings(repository_control=chosen), exposure) is expected


def test_an_insecure_gateway_warns_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    warning = InsecurityWarning(Exposure(("0.0.0.0",), is_permitted=True))
    [task] = warning.tasks
    with caplog.at_level(logging.WARNING, "penstock.app"):
        for _ in range(2):
            asyncio.run(task.attempt())
            pauses.append(task.pause_s())
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert all(abs(pause - WARNING_INTERVAL_S) <= 6.1 for pause in pauses)
    [reading] = warning.readings()
    assert reading == Point(metrics.INSECURE, (), True)


@pytest.mark.parametrize(("dry_run", "authenticates"), [(False, True), (True, False)])
def test_a_dry_run_of_authentication_refuses_nothing_and_counts_as_none(dry_run: bool, authenticates: bool) -> None:
    exposure = exposure_of(settings(auth={"keys": True, "dry_run": dry_run}, host="0.0.0.0"))
    assert exposure.authenticates is authenticates
    assert exposure.is_refused  # there is no TLS
