"""The demo's models, pictures and reading of counters, each alone."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from penstock.core.lineage import metadata_of

if TYPE_CHECKING:
    from penstock.cli.demo.training import DigitRows  # imports scikit-learn, as all of the demo: no collection needs it


@pytest.fixture(scope="module")
def digits() -> "DigitRows":
    from penstock.cli.demo import training

    return training.read_digits()


def test_the_exported_graphs_answer_as_the_trained_pipelines(tmp_path: Path, digits: "DigitRows") -> None:
    from penstock.cli.demo import training

    seen: list[float] = []
    pipelines = {recipe.version: training.train(recipe, digits, seen.append) for recipe in training.list_recipes()}
    for version, pipeline in pipelines.items():
        training.write_version(tmp_path / version, pipeline)
        session = onnxruntime.InferenceSession(tmp_path / version / "model.onnx")
        labels, probabilities = session.run(["label", "probabilities"], {training.INPUT: digits.test_rows})
        assert (labels == pipeline.predict(digits.test_rows)).all()
        np.testing.assert_allclose(probabilities, pipeline.predict_proba(digits.test_rows), atol=1e-5)
        assert (labels == digits.test_labels).mean() > 0.93
    assert len(seen) == sum(recipe.epochs for recipe in training.list_recipes())
    for recipe in training.list_recipes():
        metadata = training.describe_origin(recipe, digits, pipelines[recipe.version])
        assert metadata_of(metadata) == metadata


def test_a_digit_is_drawn_in_eight_lines(digits: "DigitRows") -> None:
    from penstock.cli.demo import pictures

    lines = pictures.draw_digit(digits.test_rows[0], plain=True).split("\n")
    assert [len(line) for line in lines] == [16] * 8
    assert set("".join(lines)) <= set(pictures.PLAIN_SHADES)


def test_counters_are_read_by_version_and_protocol() -> None:
    from penstock.cli.demo import counts

    text = """\
# TYPE penstock_requests_total counter
penstock_requests_total{model="digits",version="1",route="pinned",protocol="rest",code="200"} 3.0
penstock_requests_total{model="digits",version="2",route="pinned",protocol="grpc",code="OK"} 4.0
penstock_requests_total{model="digits",version="2",route="stable",protocol="grpc",code="OK"} 1.0
penstock_requests_total{model="other",version="1",route="stable",protocol="rest",code="200"} 9.0
penstock_requests_total{model="digits",version="1",route="pinned",protocol="rest",code="400"} 2.0
"""
    assert counts.parse(text) == (Counter({("1", "rest"): 3, ("2", "grpc"): 5}), 2)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_percentiles_are_of_the_ordered_times(share: float, expected: float) -> None:
    from penstock.cli.demo.traffic import percentile_ms

    times = [number / 1000 for number in range(100, 0, -1)]
    assert percentile_ms(times, share) == pytest.approx(expected)
    assert percentile_ms([], share) == 0.0
