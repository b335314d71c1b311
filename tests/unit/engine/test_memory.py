"""The memory this process may use: the smallest of the machine's, its control groups' and its own limit."""

import os
from pathlib import Path

import pytest

from penstock.engine.memory import read_group_limits, read_memory


def groups(root: Path, text: str, limits: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)
    for path, limit in limits.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit)
    return root


@pytest.mark.parametrize(
    ("text", "limits", "expected"),
    [
        ("0::/\n", {}, []),
        ("0::/\n", {"memory.max": "max\n"}, []),
        ("0::/a/b\n", {"a/b/memory.max": "4096\n", "a/memory.max": "8192\n", "memory.max": "max\n"}, [4096, 8192]),
        ("0::/a\n", {"a/memory.max": "8192\n", "a/memory.high": "4096\n"}, [8192, 4096]),
        ("0::/not/seen/from/here\n", {"memory.max": "4096\n"}, [4096]),
        ("3:memory:/a\n2:cpu:/b\n", {"memory/a/memory.limit_in_bytes": "4096\n"}, [4096]),
        ("2:cpu:/b\n", {"cpu/b/memory.max": "4096\n"}, []),
        ("0::/\n", {"memory.max": "no number\n"}, []),
        ("0::/\n", {"memory.max": "0\n"}, []),
    ],
)
def test_limits_of_all_groups_are_read(tmp_path: Path, text: str, limits: dict[str, str], expected: list[int]) -> None:
    found = read_group_limits(groups(tmp_path, text, limits))
    assert sorted(set(found)) == sorted(expected)


def test_the_smallest_limit_holds(tmp_path: Path) -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert read_memory(groups(tmp_path / "a", "0::/\n", {"memory.max": "max\n"})) <= physical
    assert read_memory(groups(tmp_path / "b", "0::/\n", {"memory.max": "65536\n"})) == 65536


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert read_group_limits(tmp_path) == []
