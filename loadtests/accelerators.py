"""ONNX Runtime's own provider beside OpenVINO: processor time, memory and answers of the larger models, FP32 and INT8.

Each measurement is a process of its own, and the two providers take turns. INT8 graphs are made from the FP32 ones with
ONNX Runtime's static quantisation (QDQ, signed weights by channel), on random inputs: with unsigned activations, and
with signed ones, which are the tool's default.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.graphs import find_repository
from loadtests.models import MODELS, Arrays, BenchModel, cache_folder

PROVIDERS = ("default", "openvino")
KINDS = {"fp32": "FP32", "u8s8": "INT8", "s8s8": "INT8, signed activations"}
RUNS = {"cnn": 12, "transformer": 80}
MOST_ROWS = {"cnn": 8, "transformer": 16}
_QUANTIZED = {"cnn": None, "transformer": ["MatMul", "Gemm"]}
"""Operators to quantise (None: all); the transformer's tokens are computed, and must stay exact."""


def graph_file(model: BenchModel, kind: str) -> Path:
    """Return the graph of a kind; it is made on first use."""
    find_repository(model)
    if kind == "fp32":
        return model.file
    file = cache_folder() / kind / model.file.relative_to(model.folder.parent)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _quantize(model, file, is_signed=kind == "s8s8")
    return file


class _Samples:
    """The random inputs from which the ranges of values are taken, as ONNX Runtime's quantisation asks for them."""

    def __init__(self, model: BenchModel) -> None:
        self._samples = iter([{model.input: model.rows(4, seed)} for seed in range(4)])

    def get_next(self) -> Arrays | None:
        """Return the next inputs, None after the last."""
        return next(self._samples, None)


def _quantize(model: BenchModel, file: Path, is_signed: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_static  # noqa: PLC0415 - only for graphs that are not there yet

    part = file.with_suffix(f".{os.getpid()}")
    quantize_static(
        str(model.file),
        str(part),
        _Samples(model),
        per_channel=True,
        activation_type=QuantType.QInt8 if is_signed else QuantType.QUInt8,
        op_types_to_quantize=_QUANTIZED[model.name],
    )
    part.replace(file)


def measure(name: str, kind: str, provider: str) -> dict[str, Any]:
    """Measure one provider in this process."""
    from penstock.core.batching import RowProof  # noqa: PLC0415 - only in the processes that measure
    from penstock.core.options import ModelOptions, SessionOptions  # noqa: PLC0415
    from penstock.engine.model import load  # noqa: PLC0415

    model, most = MODELS[name], MOST_ROWS[name]
    session = SessionOptions(accelerator="" if provider == "default" else provider)
    options = ModelOptions(max_batch_size=most, instances=2, session=session)
    file = graph_file(model, kind)
    before, began = _private_bytes(), time.process_time()
    loaded = load(file, options, 2, RowProof(True))
    loading = time.process_time() - began
    feeds = {model.input: model.rows(1)}

    def run(_: int) -> None:
        loaded.run(feeds, list(model.outputs))

    figures = {"load_s": loading, "alone_ms": _processor_ms(run, RUNS[name], 1)}
    figures["two_ms"] = _processor_ms(run, RUNS[name], 2)
    for rows in range(1, most + 1):
        loaded.run({model.input: model.rows(rows)}, list(model.outputs))
    figures["memory_mib"] = (_private_bytes() - before) / (1 << 20)
    answers = [loaded.run({model.input: model.rows(most, seed)}, list(model.outputs))[0] for seed in range(3)]
    return {**figures, "answers": np.concatenate(answers).tolist()}


def _processor_ms(run: Any, runs: int, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(threads)))
        began = time.process_time()
        list(pool.map(run, range(runs)))
        return (time.process_time() - began) / runs * 1000


def _private_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) * 1024


def _measure(name: str, kind: str, provider: str) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--only", name, kind, provider]
    done = subprocess.run(command, check=True, capture_output=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _find_difference(usual: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Return the largest difference, relative to the largest number of its row, and the share of rows whose largest
    number is at the same place."""
    expected, answer = np.array(usual["answers"]), np.array(other["answers"])
    gaps = np.abs(expected - answer) / np.abs(expected).max(axis=1, keepdims=True)
    return float(gaps.max()), float((expected.argmax(axis=1) == answer.argmax(axis=1)).mean())


FIGURES = ("alone_ms", "two_ms", "load_s", "memory_mib")


def format_lines(rounds: int) -> Iterator[str]:
    """Yield the lines of the table: medians of the rounds."""
    yield "| model | provider | CPU ms a run, alone | two at once | CPU s to load | MiB, every batch size |"
    yield "|---|---|---|---|---|---|"
    for name in RUNS:
        for kind, title in KINDS.items():
            results = [{each: _measure(name, kind, each) for each in PROVIDERS} for _ in range(rounds)]
            for provider in PROVIDERS:
                medians = [statistics.median(found[provider][figure] for found in results) for figure in FIGURES]
                yield f"| {name}, {title} | {provider} | {' | '.join(f'{value:.2f}' for value in medians)} |"
            worst, same = _find_difference(results[0]["default"], results[0]["openvino"])
            yield f"{name}, {title}: difference {worst:.2g} of a row's largest number; same largest in {same:.0%}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--rounds", type=int, default=3, help="times that each provider is measured")


def main(arguments: argparse.Namespace) -> int:
    """Print the table."""
    for line in format_lines(arguments.rounds):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[2:])))
