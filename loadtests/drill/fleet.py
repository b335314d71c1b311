"""A fleet of the drill: two gateways on one PostgreSQL, whose leader is frozen until it is succeeded, and killed."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.drill.gateway import Gateway
from tests import postgres

SUCCEEDED_S = 30.0
READY_S = 60.0


class Fleet:
    """Two gateways of one registry; see ``Gateway``. Clients come by both, whoever of them leads."""

    def __init__(self, folder: Path, versions: Mapping[str, bytes], workers: int) -> None:
        self._stack = ExitStack()
        try:
            self._database = self._stack.enter_context(postgres.running())
            self._url = self._database.create("drill")
            registry = {"PENSTOCK_REGISTRY": self._url, "PENSTOCK_BLOBS": str(folder / "blobs")}
            self._gateways = [self._started(folder / name, workers, registry) for name in ("a", "b")]
            for version, content in versions.items():
                status, said = self._gateways[0].admin("PUT", f"/versions/{version}", content)
                if status != 201:
                    raise RuntimeError(f"version {version} was not taken: {said}")
            for gateway in self._gateways:
                wait_until(partial(_is_serving, gateway, set(versions)), READY_S, "every version at each gateway")
        except BaseException:
            self._stack.close()
            raise
        self._names = {gateway: gateway.fleet()["asked"] for gateway in self._gateways}
        self._turn = itertools.cycle(self._gateways)
        self._frozen: Gateway | None = None

    def _started(self, folder: Path, workers: int, registry: Mapping[str, str]) -> Gateway:
        gateway = Gateway(folder, {}, workers, registry)
        self._stack.callback(gateway.stop)
        return gateway

    @property
    def http(self) -> str:
        """The REST address of a gateway, each in its turn."""
        return next(self._turn).http

    def admin(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """One call of the admin API of a gateway that answers."""
        return self._able().admin(method, path, body)

    def _able(self) -> Gateway:
        return next(gateway for gateway in self._gateways if not gateway.killed and gateway is not self._frozen)

    def lose_leader(self, kill: bool) -> None:
        """Freeze the leader until another gateway leads, and let it go on; then, if asked to, kill that one."""
        wait_until(lambda: self._leader() is not None, SUCCEEDED_S, "a leader")
        self._frozen = self._leader()
        assert self._frozen is not None
        os.kill(self._frozen.pid, signal.SIGSTOP)
        try:
            wait_until(
                lambda: self._leader() not in (None, self._frozen), SUCCEEDED_S, "a successor of the frozen leader"
            )
        finally:
            os.kill(self._frozen.pid, signal.SIGCONT)
            self._frozen = None
        if kill and (leader := self._leader()) is not None:
            leader.kill_control()

    def _leader(self) -> Gateway | None:
        """The gateway that holds the lease; None while nobody does."""
        leader = self._able().fleet()["leader"]
        return next((gateway for gateway, name in self._names.items() if name == leader), None)

    def stop(self) -> None:
        """End both, and the database."""
        self._stack.close()


def _is_serving(gateway: Gateway, versions: set[str]) -> bool:
    status, document = gateway.admin("GET", "")
    return status == 200 and versions <= {
        version["version"] for version in document["versions"] if version["state"] == "READY"
    }


def wait_until(check: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something; ``RuntimeError`` if it takes too long."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)
