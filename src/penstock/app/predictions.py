"""Lets the ops port ask the data ports of this gateway for predictions, as the caller who asks it."""

import time
from collections.abc import Callable
from pathlib import Path

from penstock.app.certificates import Certificates
from penstock.control.access.authenticator import Authenticator
from penstock.control.plane.predictions import DataPorts, Predictions
from penstock.core.access.callers import Caller
from penstock.core.access.delegation import write_delegation
from penstock.monitor.capture import CAPTURES


def open_predictions(
    http: str,
    grpc: str,
    certificates: Certificates | None,
    authenticator: Authenticator,
    delegation_key: bytes,
    home: Path,
    clock: Callable[[], float] = time.time,
) -> Predictions:
    """Build the service for these addresses (host:port); workers accept what is signed with the ``delegation_key``, and
    captured requests are below ``home``."""

    def delegate(caller: Caller, model: str) -> str | None:
        return write_delegation(delegation_key, caller, model, clock()) if caller.is_proven else None

    def certificate() -> str:
        return "" if certificates is None else certificates.material.certificate

    return Predictions(DataPorts(http, grpc, certificate, lambda: authenticator.enabled), delegate, home / CAPTURES)
