import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.options import WarmupInput, WarmupSample
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES
from penstock.engine import warmup

BOUNDED = Signature((TensorSpec("x", "FP32", (-1, 3)),), (), batching=True, max_batch_size=4)
FREE = Signature((TensorSpec("x", "FP32", (-1, 3)),), (), batching=True)


def test_the_default_request_is_small_and_empty() -> None:
    signature = Signature(
        (
            TensorSpec("x", "FP32", (-1, 3)),
            TensorSpec("t", "BYTES", (-1, -1)),
            TensorSpec("s", "INT64", ()),
            TensorSpec("w", "FP32", (3,), optional=True),
        ),
        (),
    )
    tensors = {tensor.name: tensor.data for tensor in warmup.default_tensors(signature)}
    assert {name: data.shape for name, data in tensors.items()} == {"x": (1, 3), "t": (1, 1), "s": ()}
    assert tensors["t"].tolist() == [[""]]
    assert not tensors["x"].any()


@pytest.mark.parametrize(
    ("signature", "batch_size", "shape"),
    [(BOUNDED, 2, (2, 3)), (BOUNDED, 0, (1, 3)), (FREE, 2, (2, 3)), (FREE, 0, (3,))],
)
def test_a_sample_has_its_batch_size_before_its_dims(
    signature: Signature, batch_size: int, shape: tuple[int, ...]
) -> None:
    sample = WarmupSample("s", (WarmupInput("x", "FP32", (3,)),), batch_size)
    assert warmup.sample_tensors(sample, signature)[0].data.shape == shape


@pytest.mark.parametrize("datatype", sorted(NUMPY_TYPES))
def test_random_data_of_every_datatype(datatype: str) -> None:
    sample = WarmupSample("s", (WarmupInput("x", datatype, (50,), random=True),))
    data = warmup.sample_tensors(sample, Signature((), ()))[0].data
    assert data.dtype == NUMPY_TYPES[datatype]
    assert data.shape == (50,)
    assert len(set(data.tolist())) > 1
    if datatype == "BYTES":
        assert set(data.tolist()) <= {"0", "1"}
    elif datatype == "BF16":
        assert ((data.astype(np.uint32) << 16).view(np.float32) < 1).all()
    else:
        assert ((data >= 0) & (data <= 1)).all()


def test_data_of_a_file_must_fit_its_shape() -> None:
    raw = np.array([1, 2, 3], np.float32).tobytes()
    sample = WarmupSample("s", (WarmupInput("x", "FP32", (3,), data=raw),))
    assert warmup.sample_tensors(sample, BOUNDED)[0].data.tolist() == [[1, 2, 3]]
    with pytest.raises(InvalidInput, match="needs 24 bytes, got 12"):
        warmup.sample_tensors(WarmupSample("s", sample.inputs, 2), BOUNDED)


def test_a_sample_beyond_all_memory_is_refused() -> None:
    sample = WarmupSample("s", (WarmupInput("x", "FP32", (1 << 20, 1 << 20)),))
    with pytest.raises(InvalidInput, match="too large"):
        warmup.sample_tensors(sample, FREE)


def test_the_median_of_seven_runs() -> None:
    durations = iter([9, 1, 5, 7, 3, 8, 2])
    now = 0
    begun = False

    def clock() -> int:
        nonlocal now, begun
        now, begun = (now + next(durations), False) if begun else (now, True)
        return now

    assert warmup.median_run_ns(lambda: None, clock=clock) == 5
    assert next(durations, None) is None


def test_long_runs_are_measured_once() -> None:
    times = iter([0, 3_000_000_000])
    assert warmup.median_run_ns(lambda: None, clock=lambda: next(times)) == 3_000_000_000
