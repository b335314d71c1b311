"""The one list of right requests that every transport must answer as ONNX Runtime does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.conformance.wire import NUMPY_TYPES, RAW_ONLY, Array, Input
from tests.zoo import ONNX_TYPES

NUMBERS = [name for name in ONNX_TYPES if name not in {"BOOL", "BYTES", "BF16"}]
FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
TEXTS = [
    "",
    "a",
    "Füße",
    "日本語",
    "\U0001f600",
    'quo"te\\back/slash',
    "line\r\nbreak\ttab",
    "nul\0inside",
    "x" * 70_000,
]


@dataclass(frozen=True, slots=True)
class Case:
    """One request; ``file`` is where the graph that answers lies, ``finite`` that JSON can carry its numbers."""

    name: str
    model: str
    inputs: tuple[Input, ...]
    file: str = ""
    version: str = ""
    requested: tuple[str, ...] = ()
    finite: bool = True

    def path(self, folder: Path) -> Path:
        """The graph."""
        return folder / (self.file or f"{self.model}.onnx")

    def carried_by(self, transport: str) -> bool:
        """Whether this transport has a form for these values."""
        typed = not any(given.datatype in RAW_ONLY for given in self.inputs)
        return {"rest-json": typed and self.finite, "grpc-typed": typed}.get(transport, True)


def case(name: str, model: str, *inputs: Input, **rest: object) -> Case:
    """A case, with its inputs as plain arguments."""
    return Case(name, model, inputs, **rest)  # type: ignore[arg-type]


def random_of(datatype: str, shape: Sequence[int], seed: int = 5) -> Array:
    """Seeded values that use the whole range of a datatype."""
    rng = np.random.default_rng(seed)
    if datatype == "BYTES":
        return Input.of("", "BYTES", [TEXTS[i % len(TEXTS)] for i in range(int(np.prod(shape)))]).data.reshape(shape)
    dtype = np.dtype(NUMPY_TYPES[datatype])
    if datatype == "BOOL":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind == "f":
        return (rng.standard_normal(shape) * 100).astype(dtype)
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)


def exact(name: str, datatype: str, data: Array) -> Input:
    """An input of just this array."""
    return Input(name, datatype, data.shape, data)


def every_datatype() -> Iterator[Case]:
    """Identity of each datatype, in several shapes: ordinary, one element, no element at all, large."""
    for datatype in ONNX_TYPES:
        for shape in ((2, 3), (1, 1), (0, 3), (2, 0), (0, 0), (300, 41)):
            array = random_of(datatype, shape) if datatype != "BYTES" or shape != (300, 41) else _short_texts(shape)
            yield case(f"{datatype}{list(shape)}", f"identity_{datatype.lower()}", exact("x", datatype, array))


def _short_texts(shape: tuple[int, int]) -> Array:
    return Input.of("", "BYTES", [[f"{row}/{column}" for column in range(shape[1])] for row in range(shape[0])]).data


def extremes() -> Iterator[Case]:
    """The ends of every range, signed zeros and subnormal numbers; then what only raw bytes and protobuf carry."""
    for datatype in NUMBERS:
        model, dtype = f"identity_{datatype.lower()}", np.dtype(NUMPY_TYPES[datatype])
        if datatype in FLOATS:
            limits = np.finfo(dtype)
            numbers = [0.0, -0.0, 0.1, limits.max, limits.min, limits.tiny, limits.smallest_subnormal, np.pi]
            yield case(f"{datatype} ends", model, exact("x", datatype, np.array([numbers], dtype)))
            odd = np.array([[np.nan, np.inf, -np.inf]], dtype)
            yield case(f"{datatype} no numbers", model, exact("x", datatype, odd), finite=False)
        else:
            bounds = np.iinfo(dtype)
            yield case(f"{datatype} ends", model, exact("x", datatype, np.array([[bounds.min, 0, bounds.max]], dtype)))
    patterns = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    yield case("BF16 every pattern", "identity_bf16", exact("x", "BF16", patterns))
    yield case("BYTES every text", "identity_bytes", Input.of("x", "BYTES", [TEXTS]))


def shapes() -> Iterator[Case]:
    """Rank 0 to 3, static, dynamic and empty shapes."""
    yield case("scalar", "scalar", Input.of("x", "FP32", 20.5))
    yield case("vector", "vector", Input.of("x", "FP32", [1, 2, 3, 4]))
    yield case("empty vector", "vector", Input.of("x", "FP32", []))
    yield case("static", "static", Input.of("x", "FP32", [[1, 2, 3], [4, 5, 6]]))
    yield case("fixed batch", "fixed_batch", exact("x", "FP32", random_of("FP32", (4, 3)) / 50))
    yield case("cube", "cube", exact("x", "FP32", random_of("FP32", (2, 3, 4))))
    yield case("cube without depth", "cube", exact("x", "FP32", random_of("FP32", (0, 3, 4))))
    yield case("output of unknown size", "nonzero", Input.of("x", "FP32", [0, 1, 0, 2]))
    yield case("output without elements", "nonzero", Input.of("x", "FP32", [0, 0]))


def several_tensors() -> Iterator[Case]:
    """Inputs and outputs of different types, in any order, and requested outputs."""
    number = exact("number", "FP32", random_of("FP32", (2, 3)))
    key = Input.of("key", "INT64", [[1, -2], [3, 1 << 60]])
    yield case("mixed", "mixed", number, key)
    yield case("mixed, inputs swapped", "mixed", key, number)
    yield case("mixed, no rows", "mixed", exact("number", "FP32", number.data[:0]), exact("key", "INT64", key.data[:0]))
    for requested in (("positive",), ("next", "doubled"), ("positive", "next", "doubled")):
        yield case(f"mixed, wants {' '.join(requested)}", "mixed", number, key, requested=requested)
    yield case(
        "texts", "concat", Input.of("a", "BYTES", ["x", "é", ""]), Input.of("b", "BYTES", ["1", "\U0001f600", ""])
    )
    yield case("integer division", "divide", Input.of("a", "INT32", [7, -8]), Input.of("b", "INT32", [2, 3]))
    yield case("odd names", "odd_names", Input.of('in put/"ä":0', "FP32", [1, -2]))


def real_models() -> Iterator[Case]:
    """Regression, classifier, perceptron; one row and many."""
    for rows in (1, 2, 7, 64):
        yield case(f"logistic, {rows} rows", "logistic", exact("x", "FP32", random_of("FP32", (rows, 30)) / 100))
        yield case(f"mlp, {rows} rows", "mlp", exact("x", "FP32", random_of("FP32", (rows, 64)) / 100))
    features = exact("x", "FP32", random_of("FP32", (3, 5)) / 100)
    yield case("classifier", "unlabelled", features, file="unlabelled/1/model.onnx")
    yield case("table", "gather", Input.of("index", "INT64", [3, 0, -1]))
    yield case("loop", "steps", Input.of("x", "FP32", [2]), Input.of("steps", "INT64", 3))
    yield case("slow", "slow", Input.of("x", "FP32", [2]))
    wide = exact("x", "FP32", random_of("FP32", (2, 512)) / 1000)
    yield case("external weights", "external", wide, file="external/1/model.onnx/model.onnx")
    yield case("other file name", "renamed", Input.of("x", "FP32", [1, 2]), file="renamed/1/weights.onnx")


def versions() -> Iterator[Case]:
    """The version that was asked for answers; without one, the newest."""
    rows = Input.of("x", "FP32", [[1, 2, 3]])
    for model, version, answers in (
        ("pair", "1", "1"),
        ("pair", "2", "2"),
        ("pair", "", "2"),
        ("counts_to_ten", "", "10"),
        ("counts_to_ten", "2", "2"),
        ("semantic", "", "1.10.0"),
        ("semantic", "1.4.0", "1.4.0"),
        ("policy_latest", "", "3"),
        ("policy_latest_two", "2", "2"),
        ("policy_specific", "1", "1"),
        ("policy_specific", "", "3"),
        ("policy_all", "2", "2"),
    ):
        file = f"{model}/{answers}/model.onnx"
        yield case(f"{model} version {version or 'free'}", model, rows, file=file, version=version)


CASES = [*every_datatype(), *extremes(), *shapes(), *several_tensors(), *real_models(), *versions()]
