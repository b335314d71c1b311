"""What the guard holds: parts of the ceiling's figures, and the least that they may be."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import PEAK
from loadtests.contenders import list_contenders
from loadtests.guard import (
    CASES,
    HALF_LOAD,
    KEPT,
    MAY_FALL,
    Parts,
    choose_limits,
    find_regressions,
    limits_from,
    parts,
    settled,
    vendor_of,
)
from loadtests.h2load import Window
from loadtests.latencies import Latencies
from loadtests.measurements import Load, Measurement
from loadtests.models import MODELS

KINDS = st.sampled_from(sorted(MAY_FALL))


@pytest.mark.parametrize(
    ("least", "seen", "names"),
    [
        ({"a": 0.6}, {"a": 0.6}, []),
        ({"a": 0.6}, {"a": 0.59}, ["a"]),
        ({"a": 0.6, "b": 0.5}, {"a": 0.9, "b": 0.4, "c": 0.1}, ["b"]),
        ({"a": 0.6}, {"a": math.nan}, ["a"]),
        ({}, {"a": 0.1}, []),
    ],
)
def test_a_figure_falls_where_it_is_less_than_it_may_be(least: Parts, seen: Parts, names: list[str]) -> None:
    assert [item.name for item in find_regressions(least, seen)] == names


@given(st.dictionaries(KINDS.map(lambda kind: f"{kind} tiny json"), st.floats(0.05, 5.0)))
def test_what_was_seen_may_be_seen_again_and_half_of_it_may_not(seen: Parts) -> None:
    least = limits_from(seen)
    assert find_regressions(least, seen) == []
    assert {item.name for item in find_regressions(least, {name: part / 2 for name, part in seen.items()})} == set(seen)


@pytest.mark.parametrize(
    ("vendor", "least"),
    [("A", {"x": 0.5, "y": 0.9}), ("B", {"x": 0.6}), ("C", {"x": 0.5, "y": 0.9}), ("", {"x": 0.5, "y": 0.9})],
)
def test_a_processor_of_another_vendor_may_do_the_least_of_all(vendor: str, least: Parts) -> None:
    assert choose_limits({"A": {"x": 0.5, "y": 0.9}, "B": {"x": 0.6}}, vendor) == least
    assert choose_limits({}, vendor) == {}


@pytest.mark.parametrize(
    ("cpuinfo", "vendor"),
    [
        ("processor\t: 0\nvendor_id\t: GenuineIntel\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\n", "GenuineIntel"),
        ("vendor_id\t: AuthenticAMD\n", "AuthenticAMD"),
        ("CPU implementer\t: 0x41\n", ""),
    ],
)
def test_the_vendor_is_the_one_that_the_kernel_says(cpuinfo: str, vendor: str) -> None:
    assert vendor_of(cpuinfo) == vendor


def test_a_disturbed_part_of_the_run_is_run_once_more() -> None:
    seen = iter([{"a": 0.5, "b": 0.9}, {"a": 0.7, "b": 0.8}, {"a": 0.1, "b": 0.1}])
    assert settled(lambda: next(seen), {"a": 0.6}) == {"a": 0.7, "b": 0.9}
    assert settled(lambda: next(seen), {}) == {"a": 0.1, "b": 0.1}


def test_every_figure_is_a_part_of_the_ceilings_and_more_is_better() -> None:
    chosen = [item for item in list_contenders(MODELS["tiny"]) if item.name in ("penstock json", "batched json")]
    measured = [
        _measured("penstock json", PEAK, 80.0, 1.0, 50.0),
        _measured("batched json", PEAK, 100.0, 1.0, 40.0),
        _measured("penstock json", HALF_LOAD, 40.0, 2.0, 60.0),
        _measured("batched json", HALF_LOAD, 40.0, 1.0, 40.0),
    ]
    found = {
        "throughput tiny json": 0.8,
        "processor time tiny json": 0.8,
        "half load tiny json p50": 0.5,
        "half load tiny json p99": 0.25,
    }
    assert dict(parts(chosen, measured)) == found
    assert "half load tiny json p50" not in dict(parts(chosen, measured[:2]))


def test_both_vendors_state_the_least_of_figures_that_are_measured() -> None:
    kept = json.loads(KEPT.read_text())
    assert set(kept) >= {"AuthenticAMD", "GenuineIntel"}
    cases = {f"{case.model} {codec}" for case in CASES for codec in case.codecs}
    kinds = ("throughput {}", "processor time {}", "half load {} p50", "half load {} p99")
    known = {kind.format(case) for kind in kinds for case in cases} | {
        f"lone {name}" for name in ("json", "binary", "grpc")
    }
    known.add("tracing processor time")
    known |= {f"of bare runs, transformer, {what}" for what in (1, 4, 32, "processor time")}
    for figures in kept.values():
        assert {name for name in figures if not name.startswith(("start", "memory"))} <= known
        assert all(0 < part < 2 for part in figures.values())


def _measured(contender: str, load: Load, rate: float, ms: float, cpu_us: float) -> Measurement:
    window = Window(10, 0, rate, Latencies(ms, ms**2, ms**2, 10))
    return Measurement(0, "tiny", contender, load.name, window, cpu_us, 0.0)
