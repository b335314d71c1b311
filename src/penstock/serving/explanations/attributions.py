"""Explains waiting live rows of a version beside everything else: exactly, within a share of a core, and only while no
caller waits for an explanation. The sizes of the attributions are sent to the control process.
"""

import logging
from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

import numpy as np

from penstock.core.bins import Floats
from penstock.core.errors import Fault, InvalidInput, TooLarge, Unsupported
from penstock.core.explanations import ExplanationOptions
from penstock.core.tensors import Tensor
from penstock.monitor.row_attributions import RowAttributions
from penstock.serving.explanations.preparation import Prepared
from penstock.serving.observers.explained_rows import ExplainedRows

if TYPE_CHECKING:
    from penstock.explain.methods import Explanation

log = logging.getLogger("penstock.serving")

REST: Final = 19
"""Pause after an explanation, in times that it took: a twentieth of a core is used at most."""

REFUSED_NS: Final = 60_000_000_000
"""Pause after a version that has no exact explanation."""

BUDGET_NS: Final = 2_000_000_000
MOST_FEATURES: Final = 256
"""Features of a row whose importance is followed."""

EXACT_METHODS: Final = ("tree", "linear")
NOT_EXACT: Final = "its answers are not what the trees or weights of its graph add up to"
WIDE: Final = f"it has more than {MOST_FEATURES} features"

OPTIONS: Final = ExplanationOptions(method="exact", background="reference", budget_ns=BUDGET_NS)
"""The background is drawn from the reference with one seed, so it is the same in all workers and does not follow the
traffic: attributions change only if rows or the model do."""


Make = Callable[[list[Tensor], ExplanationOptions], Awaitable["tuple[Prepared, Explanation]"]]
"""Explains rows; raises a ``Fault``."""


class AttributionSampler:
    """The explained live rows of one version; lives on the event loop. ``make`` explains rows, ``start`` runs a
    coroutine, ``send`` takes the results, and ``datatypes`` are those of the inputs by name."""

    def __init__(
        self,
        datatypes: dict[str, str],
        make: Make,
        send: Callable[[RowAttributions], None],
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._datatypes = datatypes
        self._make = make
        self._send = send
        self._clock = clock
        self._next_ns = 0
        self._running = False

    def is_due(self) -> bool:
        """Whether the next rows may be explained now."""
        return not self._running and self._clock() >= self._next_ns

    async def explain(self, rows: ExplainedRows) -> None:
        """Explain waiting rows and send what they give; a failure is logged, and later rows are explained."""
        began, pause = self._clock(), 0
        self._running = True
        try:
            self._send(await self._attributions(rows))
        except (InvalidInput, TooLarge, Unsupported) as fault:
            pause = REFUSED_NS
            self._send(RowAttributions(problem=str(fault)))
        except Fault as fault:  # too much other work: later rows do as well
            log.debug("live rows are not explained: %s", fault)
        except Exception:  # a defect must not end it without a word
            pause = REFUSED_NS
            log.exception("live rows could not be explained")
        finally:
            now = self._clock()
            self._next_ns = now + max(pause, REST * (now - began))
            self._running = False

    async def _attributions(self, rows: ExplainedRows) -> RowAttributions:
        arrays = rows.take()
        tensors = [Tensor(name, self._datatypes[name], data) for name, data in arrays.items()]
        try:
            prepared, made = await self._exact(tensors)
        except Unsupported:
            complete = select_complete(tensors)
            if complete is None:
                raise
            prepared, made = await self._exact(complete)
        features = prepared.matrix.features
        if len(features) > MOST_FEATURES:
            raise Unsupported(WIDE)
        sizes: Floats = np.abs(made.attributions).mean(axis=2)
        return RowAttributions(tuple(features), sizes, prepared.output.name, made.method, made.scale)

    async def _exact(self, tensors: list[Tensor]) -> "tuple[Prepared, Explanation]":
        """Explain rows; raises ``Unsupported`` if the answers are not what the graph adds up to."""
        prepared, made = await self._make(tensors, OPTIONS)
        if made.method not in EXACT_METHODS:
            raise Unsupported(NOT_EXACT)
        return prepared, made


def select_complete(tensors: list[Tensor]) -> list[Tensor] | None:
    """Return the rows without missing or infinite values, None if that is none of them or all: a model that takes none
    answers NaN to the others, which cannot be split up."""
    floats = [tensor.data.reshape(len(tensor.data), -1) for tensor in tensors if tensor.data.dtype.kind == "f"]
    if not floats:
        return None
    kept = np.isfinite(np.concatenate(floats, axis=1)).all(axis=1)
    if kept.all() or not kept.any():
        return None
    return [Tensor(tensor.name, tensor.datatype, tensor.data[kept]) for tensor in tensors]
