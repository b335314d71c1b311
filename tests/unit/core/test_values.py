"""Tensors, texts, limits and bins as values: each result whole, at its bounds."""

import errno

import numpy as np
import pytest

from penstock.core.bins import FeatureBins, FeatureKind
from penstock.core.classification import top_classes
from penstock.core.errors import InvalidInput, NotReady, TooLarge, storage_fault, unknown_model
from penstock.core.limits import MAX_BODY_SETTING, MAX_OUTPUT_SETTING, MEMORY_SETTING, RequestLimits
from penstock.core.slices import TEXT_SLICE
from penstock.core.tensors import LARGE, MAX_ELEMENTS, Tensor, raw_of, raw_rows, shape_text, to_raw
from penstock.core.texts import escape_terminal, shorten, without_paths


@pytest.mark.parametrize(
    ("text", "fit"),
    [
        ("cannot open /srv/models/a.onnx: no such file", "cannot open ...: no such file"),
        ("cannot open C:\\models\\a.onnx", "cannot open ..."),
        ("failed in ../lib/x.py:12 at ort::Session::Run", "failed in ...:12 at ..."),
        ("models/iris/model.onnx is damaged", "... is damaged"),
        ("weights.bin is missing", "... is missing"),
        ("the domain ai.onnx is  known\n here", "the domain ai.onnx is known here"),
        ("/a/b /c/d: /e: shape 2", "...: shape 2"),
        ("/only/a/path", ""),
        ("", ""),
        ("Float 1.5 and 3/4 of rows", "Float 1.5 and 3/4 of rows"),
    ],
)
def test_callers_see_no_paths(text: str, fit: str) -> None:
    assert without_paths(text) == fit


@pytest.mark.parametrize(("length", "shown"), [(128, "x" * 128), (129, "x" * 125 + "..."), (0, "")])
def test_long_words_are_shortened(length: int, shown: str) -> None:
    assert shorten("x" * length) == shown
    assert str(unknown_model("x" * length)) == f"Request for unknown model '{shown}'"


def test_documents_cannot_steer_a_terminal() -> None:
    assert escape_terminal('{"a": "\x1b[31m\u202e\x07 é"}') == '{"a": "\\u001b[31m\\u202e\\u0007 é"}'


@pytest.mark.parametrize(
    ("memory", "body", "output"),
    [
        (99, (99, MEMORY_SETTING), (99, MEMORY_SETTING)),
        (100, (100, MAX_BODY_SETTING), (100, MEMORY_SETTING)),
        (101, (100, MAX_BODY_SETTING), (101, MEMORY_SETTING)),
        (200, (100, MAX_BODY_SETTING), (200, MAX_OUTPUT_SETTING)),
        (201, (100, MAX_BODY_SETTING), (200, MAX_OUTPUT_SETTING)),
    ],
)
def test_limits_are_within_the_memory(memory: int, body: tuple[int, str], output: tuple[int, str]) -> None:
    limits = RequestLimits(max_body_bytes=100, max_output_bytes=200).within(memory)
    assert (limits.max_body_bytes, limits.max_body_setting) == body
    assert (limits.max_output_bytes, limits.max_output_setting) == output
    assert (limits.max_elements, limits.max_json_bytes) == (1 << 22, 8 << 20)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full; free some space and try again"),
        (errno.EDQUOT, "the disk is full; free some space and try again"),
        (errno.EROFS, "the folder can only be read; make it writable"),
        (errno.EACCES, "the folder can only be read; make it writable"),
        (errno.EMFILE, "too many files are open; raise the limit (ulimit -n) and try again"),
        (errno.EIO, "the disk reports an error; look at the system's log"),
    ],
)
def test_faults_of_a_disk_have_a_sentence(number: int, says: str) -> None:
    fault = storage_fault(OSError(number, "no", "/srv/secret"))
    assert isinstance(fault, NotReady)
    assert str(fault) == says


def test_other_faults_have_none() -> None:
    assert storage_fault(OSError(errno.ENOENT, "no")) is None
    assert storage_fault(OSError("no number")) is None


@pytest.mark.parametrize(
    ("raw", "count", "rows"),
    [(b"abcdef", 3, [b"ab", b"cd", b"ef"]), (b"abc", 3, [b"a", b"b", b"c"]), (b"", 2, [b"", b""]), (b"ab", 1, [b"ab"])],
)
def test_raw_rows_keep_their_bytes(raw: bytes, count: int, rows: list[bytes]) -> None:
    assert raw_rows(raw, count) == rows


@pytest.mark.parametrize(("size", "view"), [(LARGE - 1, False), (LARGE, True)])
def test_large_arrays_are_not_copied(size: int, view: bool) -> None:
    array = np.arange(size, dtype=np.uint8)
    raw = raw_of("UINT8", array)
    assert isinstance(raw, memoryview) is view
    assert bytes(raw) == array.tobytes() == to_raw("UINT8", array)
    if isinstance(raw, memoryview):
        assert np.shares_memory(np.frombuffer(raw, np.uint8), array)
        assert (raw.format, raw.nbytes) == ("B", size)


def test_arrays_that_lie_otherwise_are_put_in_order() -> None:
    array = np.arange(LARGE, dtype=np.float32).reshape(2, -1).T
    expected = np.ascontiguousarray(array).tobytes()
    assert bytes(raw_of("FP32", array)) == to_raw("FP32", array) == expected
    assert bytes(raw_of("INT16", np.array([1, -2], ">i2"))) == b"\x01\x00\xfe\xff"


def test_texts_are_never_a_view() -> None:
    array = np.array(["ab"] * LARGE, object)
    pauses: list[int] = []
    raw = raw_of("BYTES", array, lambda: pauses.append(1), 6 * LARGE)
    assert raw == b"\x02\x00\x00\x00ab" * LARGE == to_raw("BYTES", array)
    assert pauses
    with pytest.raises(TooLarge, match=f"have more than {LARGE} bytes"):
        raw_of("BYTES", array, most=LARGE)
    with pytest.raises(TooLarge, match=f"have more than {LARGE} bytes"):
        to_raw("BYTES", array, most=LARGE)


def test_tensors_as_json() -> None:
    numbers = Tensor("x", "FP16", np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float16))
    assert numbers.to_json() == {"name": "x", "datatype": "FP16", "shape": [2, 2], "data": [1.5, "nan", "inf", "-inf"]}
    texts = Tensor("t", "BYTES", np.array(["a", "b" * 200], object), 201)
    assert texts.to_json() == {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "b" * 125 + "..."]}
    assert (texts.text_bytes, numbers.text_bytes) == (201, 0)
    assert Tensor("b", "BOOL", np.array([True])).to_json()["data"] == [True]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((), "[]"),
        ((-1, 30), "[-1, 30]"),
        ((1,) * 8, "[1, 1, 1, 1, 1, 1, 1, 1]"),
        ((1,) * 9, "[1, 1, 1, 1, 1, 1, 1, 1, ...]"),
        ((MAX_ELEMENTS, -MAX_ELEMENTS), f"[{MAX_ELEMENTS}, -{MAX_ELEMENTS}]"),
        ((MAX_ELEMENTS + 1, -MAX_ELEMENTS - 1), "[..., ...]"),
    ],
)
def test_shapes_in_errors(shape: tuple[int, ...], text: str) -> None:
    assert shape_text(shape) == text


def scores(*rows: list[float], datatype: str = "FP32") -> Tensor:
    return Tensor("scores", datatype, np.array(rows, np.float32))


def test_the_largest_values_of_each_row() -> None:
    tensor = scores([0.25, 0.5, 0.25], [float("nan"), -1.0, 2.0])
    found = top_classes(tensor, 2, ("low", "high"), True)
    assert (found.name, found.datatype, found.data.shape) == ("scores", "BYTES", (2, 2))
    assert found.data.tolist() == [["0.500000:1:high", "0.250000:0:low"], ["2.000000:2", "-1.000000:1:high"]]
    assert top_classes(tensor, 9, (), True).data[1].tolist() == ["2.000000:2", "-1.000000:1", "nan:0"]


def test_a_model_that_does_not_batch_has_one_row() -> None:
    found = top_classes(Tensor("n", "INT64", np.array([[3, 1], [5, 4]])), 3, ("a",), False)
    assert found.data.tolist() == ["5:2", "4:3", "3:0:a"]
    assert top_classes(Tensor("n", "INT64", np.zeros((0, 3))), 1, (), True).data.shape == (0, 0)


def test_classification_has_bounds() -> None:
    with pytest.raises(InvalidInput, match="classification of output 'scores' must ask for at least 1 class, got 0"):
        top_classes(scores([1.0]), 0, (), True)
    for datatype in ("BYTES", "BF16", "BOOL"):
        with pytest.raises(InvalidInput, match=f"output 'scores' is {datatype}; classification needs a numeric"):
            top_classes(scores([1.0], datatype=datatype), 1, (), True)
    with pytest.raises(TooLarge, match="would give 4 strings, over the limit of 3"):
        top_classes(scores([1.0, 2.0], [1.0, 2.0]), 2, (), True, 3)
    assert top_classes(scores([1.0, 2.0], [1.0, 2.0]), 2, (), True, 4).data.shape == (2, 2)
    most = Tensor("many", "UINT8", np.zeros((1, 1_000_001), np.uint8))
    with pytest.raises(TooLarge, match="output 'many' has 1000001 values, and classification ranks at most 1000000;"):
        top_classes(most, 1, (), True)
    assert top_classes(Tensor("many", "UINT8", most.data[:, 1:]), 1, (), True).data.tolist() == [["0:0"]]


@pytest.mark.parametrize(
    ("values", "pauses"), [(TEXT_SLICE, 0), (TEXT_SLICE + 1, 1), (2 * TEXT_SLICE, 1), (2 * TEXT_SLICE + 1, 2)]
)
def test_there_is_a_pause_after_each_slice_of_texts(values: int, pauses: int) -> None:
    seen: list[int] = []
    tensor = Tensor("n", "INT64", -np.arange(values))
    found = top_classes(tensor, values, ("zero",), False, pause=lambda: seen.append(1))
    assert len(seen) == pauses
    assert found.data.tolist() == ["0:0:zero", *(f"{-value}:{value}" for value in range(1, values))]


def test_places_of_numbers_in_words() -> None:
    bins = FeatureBins("x", FeatureKind.NUMERIC, (0.0, 1.0, float(np.nextafter(1.0, 2.0)), 1234567.0))
    words = ["(below)", "0..1", "1", "1..1.23457e+06", "(above)", "-inf", "+inf", "(missing)"]
    assert bins.labels() == bins.public_labels() == words
    assert (bins.width, bins.missing, bins.out_of_range, bins.infinite) == (8, 7, (0, 4), (5, 6))
    assert (bins.inner, bins.constants, bins.unseen) == (slice(1, 4), (2,), ())


def test_places_of_words() -> None:
    bins = FeatureBins("x", FeatureKind.CATEGORICAL, values=("red", "blue"))
    assert bins.labels() == ["red", "blue", "(rest)", "(unseen)", "(missing)"]
    assert bins.public_labels() == ["value 0", "value 1", "(rest)", "(unseen)", "(missing)"]
    assert (bins.width, bins.missing, bins.out_of_range, bins.infinite) == (5, 4, (), ())
    assert (bins.inner, bins.unseen) == (slice(0, 3), (3,))
