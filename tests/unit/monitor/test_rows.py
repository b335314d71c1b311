"""References, columns and the counting of rows: what is made of tensors, and that everything adds up."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import RowValues, TensorForm, input_columns, output_columns
from penstock.monitor.counters.layout import Cells
from penstock.monitor.joint_distance import find_distances
from penstock.monitor.reference import LIVE, TRAINING, Reference, decode_reference, encode_reference
from penstock.monitor.reference_builder import build
from penstock.monitor.reference_columns import JOINT
from penstock.monitor.row_autocorrelation import AT_FIRST, RowAutocorrelation
from penstock.monitor.rows import ALL_SUMMED, ConstantSurplus, RegionCounts, RegionLayout, RowCounter

FEATURES = 4
INPUTS = (TensorSpec("x", "FP32", (-1, FEATURES)), TensorSpec("colour", "BYTES", (-1, 1)))
OUTPUTS = (TensorSpec("label", "INT64", (-1,)), TensorSpec("scores", "FP32", (-1, 3)))
COLUMNS = input_columns(INPUTS, batching=True), output_columns(OUTPUTS, batching=True)


def exchange(generator: np.random.Generator, rows: int = 1, shift: float = 0.0) -> tuple[list[Tensor], list[Tensor]]:
    scores = generator.uniform(size=(rows, 3)).astype("<f4")
    return (
        [
            Tensor("x", "FP32", (generator.normal(size=(rows, FEATURES)) + shift).astype("<f4")),
            Tensor("colour", "BYTES", generator.choice(np.array(["red", "blue"], object), (rows, 1))),
        ],
        [Tensor("label", "INT64", scores.argmax(axis=1)), Tensor("scores", "FP32", scores)],
    )


def row_of(tensor: Tensor, at: int) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.data[at : at + 1])


def reference(rows: int = 2000, source: str = TRAINING) -> Reference:
    inputs, outputs = exchange(np.random.default_rng(0), rows)
    names = [*COLUMNS[0].numbers, *COLUMNS[0].labels], [*COLUMNS[1].numbers, *COLUMNS[1].labels]
    given_rows, answered = COLUMNS[0](inputs), COLUMNS[1](outputs)
    assert given_rows is not None
    return build(names, given_rows, answered, source)


def cells(size: int) -> Cells:
    return np.zeros(size, np.uint64)


def test_a_reference_names_every_column_and_keeps_no_row() -> None:
    found = reference()
    assert [feature.bins.name for feature in found.inputs] == ["x[0]", "x[1]", "x[2]", "x[3]", "colour"]
    assert [output.bins.name for output in found.outputs] == ["scores.top", "label", "scores"]
    assert found.joint is not None
    assert found.joint.feature.bins.name == JOINT
    assert {feature.rows for feature in found.features} == {2000}
    assert (found.rows, found.source, found.is_small) == (2000, TRAINING, True)
    assert found.inputs[0].mean == pytest.approx(0, abs=0.1)
    assert found.inputs[0].std == pytest.approx(1, abs=0.1)
    restored = decode_reference(json.loads(json.dumps(encode_reference(found))))
    assert (restored, restored.digest) == (found, found.digest)
    assert reference(source=LIVE).digest != found.digest


def test_the_counts_of_a_slice_are_of_its_rows() -> None:
    """Each row is of one value: the values' counts add up to those of all rows, in every column."""
    found = reference()
    (by_colour,) = [item for item in found.slices if item.key == "colour"]
    columns = [*found.inputs, *found.outputs]
    ends = np.cumsum([column.bins.width for column in columns])
    blocks = np.split(np.asarray(by_colour.counts), ends[:-1], axis=1)
    for feature, block in zip(columns, blocks, strict=True):
        assert tuple(block.sum(axis=0).tolist()) == feature.counts
        assert block.sum(axis=1).tolist() == blocks[4].sum(axis=1).tolist()
    assert np.count_nonzero(blocks[4] - np.diag(np.diag(blocks[4]))) == 0  # rows of a value have that value


def test_the_joint_distance_sees_what_belongs_together() -> None:
    generator = np.random.default_rng(1)
    base = generator.normal(size=(4000, 1))
    rows = np.hstack([base, base + 0.2 * generator.normal(size=(4000, 1)), generator.normal(size=(4000, 3))])
    found = build((list("abcde"), []), RowValues(rows, ()), None, TRAINING).joint
    assert found is not None
    middle, directions = np.array(found.middle), np.array(found.directions)
    flipped = rows * np.array([1, -1, 1, 1, 1])
    assert find_distances(rows, middle, directions).mean() == pytest.approx(1, abs=0.1)
    assert find_distances(flipped, middle, directions).mean() > 5
    odd = rows[:3].copy()
    odd[0, 0], odd[1, 1] = np.nan, np.inf
    assert np.isfinite(find_distances(odd, middle, directions)).all()


@pytest.mark.simulation
@pytest.mark.parametrize("wide", [1, 300])
def test_wide_references_project_first(wide: int) -> None:
    rows = np.random.default_rng(2).normal(size=(4000, wide))
    joint = build(([str(number) for number in range(wide)], []), RowValues(rows, ()), None, TRAINING).joint
    if wide == 1:
        assert joint is None
    else:
        assert joint is not None
        assert len(joint.directions[0]) == 32


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 1000))
def test_workers_add_up_to_one_exactly(sizes: list[int], workers: int, seed: int) -> None:
    found = reference(200)
    generator = np.random.default_rng(seed)
    exchanges = [exchange(generator, size) for size in sizes]
    size = RegionLayout.of(found).size
    alone, shared = cells(size), [cells(size) for _ in range(workers)]
    RowCounter(found, alone, COLUMNS, 1.0).count(exchanges)
    counters = [RowCounter(found, item, COLUMNS, 1.0) for item in shared]
    for index, item in enumerate(exchanges):
        counters[index % workers].count([item])
    together, single = RegionCounts.of(found, shared), RegionCounts.of(found, [alone])
    assert together.counts == single.counts
    assert together.head["counted"] == single.head["counted"] == single.head["seen"] == sum(sizes)
    assert all(sum(counts) == sum(sizes) for counts in single.counts)


def test_requests_of_an_unexpected_form_are_counted_separately() -> None:
    found = reference(200)
    region = cells(RegionLayout.of(found).size)
    counter = RowCounter(found, region, COLUMNS, 1.0)
    generator = np.random.default_rng(3)
    good = exchange(generator)
    lacking = ([good[0][0]], good[1])
    other = ([Tensor("x", "FP32", np.zeros((1, 2), "<f4")), good[0][1]], good[1])
    counter.count([good, lacking, other, (good[0], [])])
    head = RegionCounts.of(found, [region]).head
    assert (head["seen"], head["counted"], head["odd"]) == (4, 2, 2)
    counter.drop(7)
    head = RegionCounts.of(found, [region]).head
    assert (head["seen"], head["dropped"]) == (11, 7)


@pytest.mark.simulation
def test_a_sample_is_without_a_bias() -> None:
    found = reference(200)
    region = cells(RegionLayout.of(found).size)
    counter = RowCounter(found, region, COLUMNS, 0.25)
    generator = np.random.default_rng(4)
    for _ in range(100):
        counter.count([exchange(generator) for _ in range(20)])
    head = RegionCounts.of(found, [region]).head
    assert head["seen"] == 2000
    assert 400 < head["counted"] < 600


@pytest.mark.simulation
@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_how_alike_neighbours_are(alike: float) -> None:
    found = reference(2000)
    region = cells(RegionLayout.of(found).size)
    counter = RowCounter(found, region, COLUMNS, 1.0)
    generator = np.random.default_rng(5)
    before = RegionCounts.of(found, [region])
    last = np.zeros(FEATURES)
    for _ in range(200):
        rows = []
        for _ in range(50):
            last = alike * last + np.sqrt(1 - alike**2) * generator.normal(size=FEATURES)
            rows.append(last)
        inputs, outputs = exchange(generator, 50)
        inputs[0] = Tensor("x", "FP32", np.array(rows, "<f4"))
        counter.count([(inputs, outputs)])
    after = RegionCounts.of(found, [region])
    neighbours = RowAutocorrelation(before)
    neighbours.take(before)
    assert neighbours.correlation == AT_FIRST  # too few neighbours to say anything
    neighbours.take(after)
    assert neighbours.correlations(1) == pytest.approx([alike] * FEATURES, abs=0.1)


def test_all_neighbours_are_compared_at_first_however_large_batches_are() -> None:
    found = reference(2000)
    region = cells(RegionLayout.of(found).size)
    counter, generator = RowCounter(found, region, COLUMNS, 1.0), np.random.default_rng(6)
    paired = []
    for _ in range(60):
        counter.count([exchange(generator, 100)])
        paired.append(RegionCounts.of(found, [region]).head["paired"])
    compared = [100 * batch - 1 for batch in range(1, 61)]
    assert all(item >= min(ALL_SUMMED, most) for item, most in zip(paired, compared, strict=True))
    assert paired[-1] < compared[-1]  # later some are left out


@pytest.mark.simulation
@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_a_correlation_of_short_stretches_has_no_bias(correlation: float) -> None:
    """Each stretch is centred by its own mean, which takes 0.024 from a correlation of 0.9 in 300 rows."""
    generator, columns = np.random.default_rng(7), 40
    found, last = reference(2000), generator.standard_normal(columns)
    first = replace(RegionCounts.of(found, [cells(RegionLayout.of(found).size)]), sums=np.zeros((3, columns)))
    neighbours, sums, paired = RowAutocorrelation(first), np.zeros((3, columns)), 0
    for _ in range(40):
        before, rows = last, np.empty((300, columns))
        for row in rows:
            last = correlation * last + np.sqrt(1 - correlation**2) * generator.standard_normal(columns)
            row[:] = last
        shifted = np.vstack([before, rows]) + generator.standard_normal(columns)
        sums = sums + [item.sum(axis=0) for item in (shifted[1:], shifted[1:] ** 2, shifted[1:] * shifted[:-1])]
        paired += 300
        neighbours.take(replace(first, head={**first.head, "paired": paired}, sums=sums))
    assert neighbours.correlations(1).mean() == pytest.approx(correlation, abs=0.02)
    successor = RowAutocorrelation(first)
    successor.restore_state(json.loads(json.dumps(neighbours.export_state())))
    assert successor.correlation == neighbours.correlation
    assert successor.correlations(1) == pytest.approx(neighbours.correlations(1))


@pytest.mark.simulation
@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_rows_that_are_spread_over_workers_stay_as_correlated(alike: float) -> None:
    """One row at a time, to whichever worker."""
    found = reference(2000)
    regions = [cells(RegionLayout.of(found).size) for _ in range(3)]
    counters = [RowCounter(found, region, COLUMNS, 1.0) for region in regions]
    generator = np.random.default_rng(8)
    before, last = RegionCounts.of(found, regions), np.zeros(FEATURES)
    (_, colours), outputs = exchange(generator, rows := 4000)
    for at, worker in enumerate(generator.integers(3, size=rows).tolist()):
        last = alike * last + np.sqrt(1 - alike**2) * generator.normal(size=FEATURES)
        tensors = [Tensor("x", "FP32", last[None, :].astype("<f4")), row_of(colours, at)]
        counters[worker].count([(tensors, [row_of(output, at) for output in outputs])])
    after = RegionCounts.of(found, regions)
    assert after.workers == 3
    neighbours = RowAutocorrelation(before)
    neighbours.take(after)
    assert neighbours.correlations(after.workers) == pytest.approx([alike] * FEATURES, abs=0.12)


@pytest.mark.parametrize(
    ("spec", "form", "numbers", "labels"),
    [
        (TensorSpec("x", "FP32", (-1, 2)), TensorForm.NUMBERS, ["x[0]", "x[1]"], []),
        (TensorSpec("x", "INT64", (-1,)), TensorForm.NUMBERS, ["x"], []),
        (TensorSpec("x", "BYTES", (-1, 2)), TensorForm.LABELS, [], ["x[0]", "x[1]"]),
        (
            TensorSpec("x", "FP32", (-1, 3, 64, 64)),
            TensorForm.SUMMARY,
            ["x.mean", "x.std", "x.min", "x.max", "x.zeros"],
            [],
        ),
        (TensorSpec("x", "FP32", (-1, -1)), TensorForm.SUMMARY, ["x.mean", "x.std", "x.min", "x.max", "x.zeros"], []),
    ],
)
def test_inputs_become_columns(spec: TensorSpec, form: TensorForm, numbers: list[str], labels: list[str]) -> None:
    columns = input_columns([spec], batching=True)
    assert (columns.numbers, columns.labels) == (numbers, labels)
    assert columns._columns[0].form is form


@pytest.mark.parametrize(
    ("spec", "data", "numbers", "labels"),
    [
        (TensorSpec("y", "FP32", (-1, 1)), np.array([[0.5]], "<f4"), [[0.5]], []),
        (TensorSpec("y", "FP32", (-1, 2)), np.array([[0.25, 0.75]], "<f4"), [[0.75]], [[1]]),
        (TensorSpec("y", "INT64", (-1,)), np.array([7]), [[]], [[7]]),
        (TensorSpec("y", "BOOL", (-1,)), np.array([True]), [[]], [[True]]),
        (TensorSpec("y", "BYTES", (-1, 1)), np.array([["a"]], object), [[]], [["a"]]),
    ],
)
def test_outputs_become_columns(spec: TensorSpec, data: Any, numbers: Any, labels: Any) -> None:
    rows = output_columns([spec], batching=True)([Tensor("y", spec.datatype, data)])
    assert rows is not None
    assert rows.numbers.tolist() == numbers
    assert [list(label) for label in rows.labels] == labels


def test_features_have_the_names_of_the_model() -> None:
    assert input_columns(INPUTS[:1], True, ["a", "b", "c", "d"]).numbers == ["a", "b", "c", "d"]
    assert input_columns(INPUTS[:1], True, ["a", "b"]).numbers == ["x[0]", "x[1]", "x[2]", "x[3]"]
    one_row = input_columns([TensorSpec("x", "FP32", (3,))], batching=False)
    rows = one_row([Tensor("x", "FP32", np.array([1, 2, 3], "<f4"))])
    assert rows is not None
    assert rows.numbers.tolist() == [[1, 2, 3]]
    assert one_row([Tensor("z", "FP32", np.zeros(3))]) is None


def test_a_large_bunch_is_thinned_without_a_bias() -> None:
    found = reference(200)
    region = cells(RegionLayout.of(found).size)
    counter = RowCounter(found, region, COLUMNS, 1.0)
    generator = np.random.default_rng(6)
    for _ in range(4):
        counter.count([exchange(generator, 10_000) for _ in range(5)])  # 250,000 numbers: two and a half times too many
    counted = RegionCounts.of(found, [region])
    assert counted.head["seen"] == 200_000
    assert counted.head["counted"] + counted.head["dropped"] == 200_000
    assert 70_000 < counted.head["counted"] < 90_000
    below_zero = sum(counted.counts[0][:6])
    assert below_zero / counted.head["counted"] == pytest.approx(0.5, abs=0.06)


def test_requests_without_rows_add_no_rows() -> None:
    found = reference(200)
    region = cells(RegionLayout.of(found).size)
    generator = np.random.default_rng(7)
    RowCounter(found, region, COLUMNS, 1.0).count(
        [exchange(generator, 0), exchange(generator, 2), exchange(generator, 0)]
    )
    RowCounter(found, region, COLUMNS, 1.0).count([exchange(generator, 0)])
    head = RegionCounts.of(found, [region]).head
    assert (head["seen"], head["counted"], head["odd"]) == (2, 2, 0)


ZERO_INFLATED = input_columns((TensorSpec("x", "FP32", (-1, 1)),), True), output_columns((), True)


def zeros(generator: np.random.Generator, rows: int, share: float) -> Any:
    x = generator.normal(5, 1, (rows, 1))
    x[generator.random(rows) < share] = 0.0
    return [Tensor("x", "FP32", x.astype("<f4"))], []


def zero_reference() -> Reference:
    given = ZERO_INFLATED[0](zeros(np.random.default_rng(3), 20_000, 0.2)[0])
    assert given is not None
    return build((["x"], []), given, None, TRAINING)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.integers(1, 300)), max_size=20), st.integers(0, 99))
def test_constants_are_counted_by_a_number_that_never_falls(parts: list[tuple[float, int]], seed: int) -> None:
    found, generator = zero_reference(), np.random.default_rng(seed)
    region = cells(RegionLayout.of(found).size)
    counter = RowCounter(found, region, ZERO_INFLATED, 1.0)
    before = 0
    for number, (share, rows) in enumerate(parts):
        if number % 3 == 2:
            counter = RowCounter(found, region, ZERO_INFLATED, 1.0)  # a successor goes on in the same words
        counter.count([zeros(generator, rows, share)])
        [now] = RegionCounts.of(found, [region]).surplus
        assert now >= before
        if share == 1.0:
            assert now - before <= rows
        before = now


def test_constants_are_counted_when_there_are_more_and_hardly_otherwise() -> None:
    found, generator = zero_reference(), np.random.default_rng(1)
    region = cells(RegionLayout.of(found).size)
    counter = RowCounter(found, region, ZERO_INFLATED, 1.0)
    for _ in range(2000):
        counter.count([zeros(generator, 10, 0.2)])
    [unchanged] = RegionCounts.of(found, [region]).surplus
    assert unchanged < 0.05 * 20_000
    for _ in range(200):
        counter.count([zeros(generator, 10, 0.0)])  # few zeros for a while
    for _ in range(100):
        counter.count([zeros(generator, 10, 1.0)])  # pay for none of these
    [stuck] = RegionCounts.of(found, [region]).surplus
    assert stuck - unchanged == pytest.approx(800, abs=60)


def test_a_surplus_is_kept_above_nothing_and_its_heights_add_up() -> None:
    found = zero_reference()
    layout = RegionLayout.of(found)
    region = cells(layout.size)
    surplus = ConstantSurplus(found, layout, region)
    [constant] = found.inputs[0].bins.constants
    place = layout.places[0] + constant

    def after(rows: int, zeros: int) -> tuple[float, float, float]:
        region[1] += np.uint64(rows)
        region[place] += np.uint64(zeros)
        surplus.update()
        now, highest, total = region[layout.surpluses : layout.size].view(np.float64).tolist()
        return now, highest, total

    share = found.inputs[0].counts[constant] / found.inputs[0].rows
    assert after(100, 100) == pytest.approx((100 * (1 - share),) * 3)
    _, highest, total = after(1000, 0)  # far fewer than expected: the surplus is over, what it was stays counted
    assert (highest, total) == pytest.approx((0, 100 * (1 - share)))
    assert after(10, 10) == pytest.approx((10 * (1 - share), 10 * (1 - share), 110 * (1 - share)))
