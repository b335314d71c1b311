"""A real model whose runs wait until a test lets them through."""

import threading
from collections.abc import Sequence
from typing import Any

from penstock.core.signature import Feeds
from penstock.core.tensors import Array
from penstock.engine.model import Model
from tests.harness import PATIENCE_S


class Gated:
    """``runs`` are the rows of each run, ``asked`` the outputs it was asked for; ``gate`` lets them through."""

    def __init__(self, model: Model) -> None:
        self._inner = model
        self.model = Model(self._run, model.signature)
        self.model.run_ns, self.model.batch_cost = model.run_ns, model.batch_cost
        self.runs: list[int] = []
        self.asked: list[list[str]] = []
        self.gate = threading.Event()

    def _run(self, outputs: Sequence[str], feeds: Feeds, options: Any) -> list[Array]:
        self.runs.append(len(next(iter(feeds.values()))))
        self.asked.append(list(outputs))
        assert self.gate.wait(PATIENCE_S)
        return self._inner._run(outputs, feeds, options)
