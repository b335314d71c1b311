import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.threads import (
    BACKGROUND,
    background_pool,
    count_cores,
    group_folders,
    quota_v1,
    quota_v2,
    read_cores,
    read_quotas,
)


@pytest.mark.parametrize(
    ("affinity", "quotas", "expected"),
    [(4, [], 4), (4, [2.0], 2), (4, [2.5, 3.9], 2), (4, [0.5], 1), (2, [8.0], 2), (1, [0.1], 1)],
)
def test_cores_are_whole_and_at_least_one(affinity: int, quotas: list[float], expected: int) -> None:
    assert count_cores(affinity, quotas) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 1.5),
        ("200000\n", 2.0),
        ("", None),
        ("0 100000", None),
        ("100000 0", None),
        ("x y", None),
    ],
)
def test_quotas_of_cgroups_v2_are_read(text: str, expected: float | None) -> None:
    assert quota_v2(text) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("-1\n", "100000\n", None), ("50000\n", "100000\n", 0.5), ("400000", "100000", 4.0), ("", "", None)],
)
def test_quotas_of_cgroups_v1_are_read(quota: str, period: str, expected: float | None) -> None:
    assert quota_v1(quota, period) == expected


def test_every_group_above_is_looked_at() -> None:
    found = [str(folder) for folder in group_folders("0::/system.slice/app.service\n", "cpu")]
    assert found[:3] == [
        "sys/fs/cgroup/system.slice/app.service",
        "sys/fs/cgroup/system.slice",
        "sys/fs/cgroup",
    ]


def test_version_one_uses_the_hierarchy_of_the_cpu_controller() -> None:
    text = "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"
    found = [str(folder) for folder in group_folders(text, "cpu")]
    assert found[0] == "sys/fs/cgroup/cpu,cpuacct/docker/x"
    assert "sys/fs/cgroup/cpu" in found
    assert not any("memory" in folder for folder in found)


@given(st.text())
def test_any_text_of_groups_and_quotas_is_read_without_a_fault(text: str) -> None:
    group_folders(text, "cpu")
    quota_v2(text)
    quota_v1(text, text)


def test_quotas_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    inner = tmp_path / "sys/fs/cgroup/outer/inner"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("100000 100000\n")
    assert read_quotas(tmp_path) == [1.0]
    assert read_cores(tmp_path) == 1


def test_a_machine_without_groups_is_bound_by_affinity_only(tmp_path: Path) -> None:
    assert read_quotas(tmp_path) == []
    assert read_cores(tmp_path) >= 1


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_background_pool_comes_after_the_thread_that_made_it() -> None:
    own = niceness()
    with background_pool(2, "test") as pool:
        found = list(pool.map(lambda _: niceness(), range(4)))
    assert found == [min(19, own + BACKGROUND)] * 4
    assert niceness() == own
