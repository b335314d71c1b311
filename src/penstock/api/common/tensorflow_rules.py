"""Rules of TensorFlow Serving's API that are the same over REST and gRPC: signatures, examples, classes and values.

Facts: tensorflow/serving ``apis/*.proto``, ``servables/tensorflow/{classifier,regressor}.cc``, ``g3doc/api_rest.md``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from penstock.api.common.work import RequestWork
from penstock.core.desired import ReadyState, VersionStatus
from penstock.core.errors import InvalidInput, NotFound, TooLarge
from penstock.core.frames.layout import BoundRows, LayoutKind, RowLayout
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import NUMBER_SLICE, TEXT_SLICE
from penstock.core.tensors import NUMPY_TYPES, Array, Shape, Tensor, text_from_bytes
from penstock.core.texts import shorten
from penstock.core.versions import sort_key
from penstock.serving.routing_table import ModelEntry

DEFAULT_SIGNATURE: Final = "serving_default"
"""The only signature of a model here."""

PREDICT: Final = "tensorflow/serving/predict"
CLASSIFY: Final = "tensorflow/serving/classify"
REGRESS: Final = "tensorflow/serving/regress"
"""The methods of signatures, which are accepted as names of the signature too."""

MAX_EXAMPLES: Final = 1 << 16
"""Maximum number of examples of a request."""

EXAMPLE_SLICE: Final = 64
"""Examples between two pauses."""

SCORES, CLASSES, VALUES = "scores", "classes", "outputs"
"""Names of outputs in signatures for classification and regression."""

_FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
_MAX_VERSION: Final = (1 << 63) - 1

Example = Mapping[str, Sequence[Any]]
"""The values of each feature: numbers, texts or bytes."""


def check_signature(name: str, method: str) -> None:
    """Raise ``InvalidInput`` for a signature that a model does not have."""
    if name and name not in (DEFAULT_SIGNATURE, method):
        raise InvalidInput(
            f'Serving signature name: "{shorten(name)}" not found in signature def; '
            f'a model has the signature "{DEFAULT_SIGNATURE}"'
        )


def version_number(version: str) -> int | None:
    """Return a version as the number that TensorFlow Serving's messages state; None if it is no such number."""
    if not version.isascii() or not version.isdigit() or len(version) > 19:
        return None
    number = int(version)
    return number if str(number) == version and number <= _MAX_VERSION else None


# Classes and values.


@dataclass(frozen=True, slots=True)
class ClassOutputs:
    """The outputs of a classification, by name ("" = there is none), and the labels of the classes by index."""

    scores: str
    classes: str
    labels: tuple[str, ...] = ()


def find_class_outputs(signature: Signature) -> ClassOutputs:
    """Return the outputs called "scores" and "classes", else the only output of floats [rows, classes].

    Raises:
        InvalidInput: there is neither.
    """
    names = {spec.name: spec for spec in signature.outputs}
    if SCORES not in names and CLASSES not in names:
        spec = _require_single(
            [spec for spec in signature.outputs if spec.datatype in _FLOATS and len(spec.shape) == 2],
            SCORES,
            "classify",
        )
        return ClassOutputs(spec.name, "", spec.labels)
    scores = names.get(SCORES)
    return ClassOutputs(
        SCORES if scores else "", CLASSES if CLASSES in names else "", scores.labels if scores is not None else ()
    )


def find_value_output(signature: Signature) -> str:
    """Return the output called "outputs", else the only one of floats [rows] or [rows, 1]; raises ``InvalidInput``."""
    if any(spec.name == VALUES for spec in signature.outputs):
        return VALUES
    found = [spec for spec in signature.outputs if spec.datatype in _FLOATS and _is_value(spec.shape)]
    return _require_single(found, VALUES, "regress").name


def _is_value(shape: Shape) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _require_single(found: list[TensorSpec], name: str, verb: str) -> TensorSpec:
    if len(found) == 1:
        return found[0]
    raise InvalidInput(
        f"the model has {len(found)} outputs to {verb} by; expected one, or one with the name '{name}': use predict"
    )


def class_scores(outputs: Sequence[Tensor], found: ClassOutputs, work: RequestWork) -> Array:
    """Return the scores of all rows, [rows, classes] as FP32; 0 where the model has none.

    Raises:
        InvalidInput: the outputs have other shapes than [rows, classes].
        TooLarge: there are more classes than an answer may have.
        LargeWork: they belong on a thread.
    """
    scores = _read_matrix(outputs, found.scores) if found.scores else None
    classes = _read_matrix(outputs, found.classes) if found.classes else None
    if scores is None:
        scores = np.zeros((0, 0) if classes is None else classes.shape, np.float32)
    if classes is not None and classes.shape != scores.shape:
        raise InvalidInput("the outputs 'classes' and 'scores' have different shapes; use predict")
    work.texts(SCORES, scores.size)
    return scores.astype(np.float32)


def class_labels(outputs: Sequence[Tensor], found: ClassOutputs) -> Iterator[list[str]]:
    """Yield the labels of the classes of each row, in the model's order; "" for a missing one."""
    if found.classes:
        for row in _read_matrix(outputs, found.classes):
            yield [str(label) for label in row.tolist()]
        return
    scores = _read_matrix(outputs, found.scores)
    labels = _make_labels(found.labels, scores.shape[1])
    for _ in range(len(scores)):
        yield labels


def _make_labels(labels: Sequence[str], count: int) -> list[str]:
    return [labels[index] if index < len(labels) else "" for index in range(count)]


def _read_matrix(outputs: Sequence[Tensor], name: str) -> Array:
    data = next(tensor.data for tensor in outputs if tensor.name == name)
    if data.ndim != 2:
        raise InvalidInput(f"output '{name}' has rank {data.ndim}; expected [rows, classes]: use predict")
    return data


def value_rows(outputs: Sequence[Tensor], name: str, work: RequestWork) -> Array:
    """Return the value of each row as FP32, as TensorFlow Serving states it; raises as ``class_scores``."""
    data = next(tensor.data for tensor in outputs if tensor.name == name)
    if data.dtype.kind not in "fiu" or not _is_value(data.shape):
        raise InvalidInput(f"output '{name}' is not one number for each row: use predict")
    work.numbers(data.size)
    return data.reshape(-1).astype(np.float32)


# Examples.


def merge_context(context: Example, features: Example, index: int) -> Example:
    """Return an example with the features that all share; raises ``InvalidInput`` if one is in both."""
    if not context:
        return features
    both = context.keys() & features.keys()
    if both:
        raise InvalidInput(f"feature '{shorten(min(both))}' of example {index} is in the context too")
    return {**context, **features}


def bind_features(signature: Signature, layout: RowLayout, examples: Sequence[Example], work: RequestWork) -> BoundRows:
    """Return the inputs of a model for examples, whose features are inputs (``bind_examples``) or else columns."""
    names = {spec.name for spec in signature.inputs if not spec.optional}
    if layout.kind is LayoutKind.TENSORS or not examples or not names.isdisjoint(examples[0]):
        return BoundRows(bind_examples(signature, examples, work))
    _check_count(examples)
    work.numbers(len(examples) * len(layout.columns))
    instances = []
    for index, example in enumerate(examples):
        instances.append({name: _pick_cell(name, example[name], index) for name in layout.columns if name in example})
        if index % EXAMPLE_SLICE == 0:
            work.pause()
    return layout.bind_instances(instances, work.pause)


def _pick_cell(name: str, values: Sequence[Any], index: int) -> Any:
    if len(values) != 1:
        raise InvalidInput(f"feature '{shorten(name)}' of example {index} has {len(values)} values; expected 1")
    return text_from_bytes(name, index, values[0]) if isinstance(values[0], bytes) else values[0]


def _check_count(examples: Sequence[Example]) -> None:
    if not examples:
        raise InvalidInput("the request has no examples; expected at least one")
    if len(examples) > MAX_EXAMPLES:
        raise TooLarge(f"the request has more than {MAX_EXAMPLES} examples; use fewer at a time, or predict")


def bind_examples(signature: Signature, examples: Sequence[Example], work: RequestWork) -> list[Tensor]:
    """Return the inputs of a model: each is the feature of its name, of all examples. Other features are ignored, as
    TensorFlow Serving does.

    Raises:
        InvalidInput: an example has no such feature, another number of values, or values of another type.
        TooLarge: there are more examples or texts than a request may have.
        LargeWork: it belongs on a thread.
    """
    _check_count(examples)
    given = [spec for spec in signature.inputs if not spec.optional or spec.name in examples[0]]
    return [_bind_feature(spec, examples, work) for spec in given]


def _bind_feature(spec: TensorSpec, examples: Sequence[Example], work: RequestWork) -> Tensor:
    """Return the feature of all examples, converted in slices; what it takes is counted before."""
    width = len(_feature_of(spec, examples, 0))
    count = width * len(examples)
    shape = _shape_of(spec, len(examples), width)
    if spec.datatype == "BYTES":
        work.texts(spec.name, count)
    else:
        work.add_typed(spec.name, count)
    filled = _FeatureValues(spec, count, work)
    for index in range(len(examples)):
        found = _feature_of(spec, examples, index)
        if len(found) != width:
            raise InvalidInput(
                f"feature '{spec.name}' of example {index} has {len(found)} values; that of example 0 has {width}"
            )
        filled.add(found)
    filled.flush()
    return Tensor(spec.name, spec.datatype, filled.data.reshape(shape), filled.text_bytes)


def _feature_of(spec: TensorSpec, examples: Sequence[Example], index: int) -> Sequence[Any]:
    found = examples[index].get(spec.name)
    if found is None:
        raise InvalidInput(f"example {index} has no feature '{spec.name}'; the model takes {spec.describe()}")
    return found


class _FeatureValues:
    """The values of a feature on their way into an array."""

    def __init__(self, spec: TensorSpec, count: int, work: RequestWork) -> None:
        self.data = np.empty(count, NUMPY_TYPES[spec.datatype])
        self.text_bytes = 0
        self._spec = spec
        self._work = work
        self._slice = TEXT_SLICE if spec.datatype == "BYTES" else NUMBER_SLICE
        self._waiting: list[Any] = []
        self._filled = 0

    def add(self, values: Sequence[Any]) -> None:
        """Add the values of the next example."""
        self._waiting += values
        if len(self._waiting) >= self._slice:
            self.flush()

    def flush(self) -> None:
        """Convert the values that wait."""
        for start in range(0, len(self._waiting), self._slice):
            values = self._waiting[start : start + self._slice]
            stop = self._filled + len(values)
            self.data[self._filled : stop] = self._converted(values)
            self._filled = stop
            self._work.pause()
        self._waiting = []

    def _converted(self, values: list[Any]) -> Any:
        if self._spec.datatype != "BYTES":
            return _convert_numbers(self._spec, values)
        texts = _encode_texts(self._spec.name, values)
        size = sum(map(len, texts))
        self._work.text_bytes(self._spec.name, size)
        self.text_bytes += size
        return texts


def _shape_of(spec: TensorSpec, rows: int, width: int) -> Shape:
    """Return the shape of a feature with ``width`` values in each of ``rows`` examples; raises ``InvalidInput``."""
    dims = spec.shape[1:]
    free = [index for index, dim in enumerate(dims) if dim < 0]
    known = prod(dim for dim in dims if dim >= 0)
    if len(free) == 1 and known and width % known == 0:
        return rows, *(width // known if dim < 0 else dim for dim in dims)
    if free or known != width or not spec.shape:
        raise InvalidInput(f"feature '{spec.name}' has {width} values in an example; expected {spec.describe()}")
    return rows, *dims


def _encode_texts(name: str, values: list[Any]) -> list[str]:
    texts: list[str] = []
    for index, value in enumerate(values):
        if isinstance(value, bytes):
            texts.append(text_from_bytes(name, index, value))
        elif isinstance(value, str):
            texts.append(value)
        else:
            raise InvalidInput(f"feature '{name}' holds a number; expected text")
    return texts


def _convert_numbers(spec: TensorSpec, values: list[Any]) -> Array:
    kind = NUMPY_TYPES[spec.datatype]
    allowed: tuple[type, ...] = (int, float) if kind.kind == "f" else (int,)
    if spec.datatype == "BF16" or any(not isinstance(value, allowed) for value in values):
        raise InvalidInput(f"feature '{spec.name}' holds values that are not {spec.datatype}")
    if kind.kind == "b" and any(value not in (0, 1) for value in values):
        raise InvalidInput(f"feature '{spec.name}' holds numbers other than 0 and 1; expected BOOL")
    try:
        with np.errstate(over="raise"):
            return np.array(values, kind)
    except (OverflowError, FloatingPointError):
        raise InvalidInput(f"feature '{spec.name}' holds a number outside the range of {spec.datatype}") from None


# States of versions.


@dataclass(frozen=True, slots=True)
class ModelVersionState:
    """The state of a version: ``state`` is the name of a ``ModelVersionStatus.State``, ``code`` the number of a gRPC
    status, with its name ``error_code``; ``reason`` says why it is not available."""

    version: str
    state: str
    code: int = 0
    error_code: str = "OK"
    reason: str = ""


_STATES: Final[dict[str, str]] = {
    ReadyState.READY: "AVAILABLE",
    ReadyState.LOADING: "LOADING",
    ReadyState.UNLOADING: "UNLOADING",
    ReadyState.UNAVAILABLE: "END",
}


def version_states(entry: ModelEntry, asked: str) -> list[ModelVersionState]:
    """Return the state of the version or alias that is ``asked`` for, or of every version ("").

    Raises:
        NotFound: there is no such version, or none at all.
    """
    version = entry.aliases.get(asked, asked)
    found = [status for name, status in entry.statuses.items() if not asked or name == version]
    if not found:
        of = f"version '{shorten(asked)}'" if asked else "any versions"
        raise NotFound(f"Could not find {of} of model '{entry.name}'")
    return [_version_state(status) for status in sorted(found, key=lambda item: sort_key(item.version))]


def _version_state(status: VersionStatus) -> ModelVersionState:
    state = _STATES[status.state]
    if state == "END" and status.reason:
        return ModelVersionState(status.version, state, 2, "UNKNOWN", status.reason)
    return ModelVersionState(status.version, state)
