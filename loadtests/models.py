"""The models the load tests serve: their signatures, inputs, true answers and place on disk."""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

SEED = 20261121
_FORMAT = "3"  # part of the cache folder's name: a change of any model needs a new one


@dataclass(frozen=True, slots=True)
class BenchModel:
    """One model with one input, FP32 ``[N, *row]``.

    ``many_threads`` says whether one run is long enough to use every core it is given; ``max_join`` is the most
    rows the batching ceiling joins into one run; ``longer`` stretches the windows of a model so slow that a
    window would hold few requests.
    """

    name: str
    input: str
    row: tuple[int, ...]
    outputs: tuple[str, ...]
    many_threads: bool = False
    max_join: int = 64
    longer: float = 1.0

    @property
    def folder(self) -> Path:
        """The repository, in Triton layout, that holds this model alone."""
        return cache_folder() / f"models-{_FORMAT}" / self.name

    @property
    def file(self) -> Path:
        """The ONNX file inside the repository."""
        return self.folder / self.name / "1" / "model.onnx"

    @property
    def elements(self) -> int:
        """Values in one row."""
        return prod(self.row)

    def rows(self, count: int, seed: int = 0) -> Floats:
        """``[count, *row]`` inputs of four decimals, so that their JSON text is as short as a client's would be."""
        values = np.random.default_rng([SEED, seed]).normal(size=(count, *self.row))
        return values.round(4).astype(np.float32)

    def expected(self, rows: Floats) -> Arrays:
        """What ONNX Runtime itself answers, output by output."""
        answers = self.session(1).run(list(self.outputs), {self.input: rows})
        return dict(zip(self.outputs, answers, strict=True))

    def threads(self, cores: int) -> int:
        """Threads of one session where the server has that many cores: one rule for every server that lets us say."""
        return cores if self.many_threads else 1

    def session(self, threads: int) -> ort.InferenceSession:
        """A session with an explicit number of threads and no spinning."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return ort.InferenceSession(str(self.file), options, providers=["CPUExecutionProvider"])


MODELS = {
    model.name: model
    for model in (
        BenchModel("tiny", "features", (30,), ("label", "probabilities")),
        BenchModel("mlp", "x", (128,), ("logits",)),
        BenchModel("gbm", "features", (30,), ("label", "probabilities")),
        BenchModel("large", "x", (1 << 18,), ("y",), max_join=4),
        BenchModel("transformer", "tokens", (32,), ("embedding",), max_join=16, longer=2.0),
        BenchModel("cnn", "image", (3, 224, 224), ("logits",), many_threads=True, max_join=8, longer=2.0),
    )
}
"""Every model by name."""


def cache_folder() -> Path:
    """Where models and tools are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "penstock-loadtests"
