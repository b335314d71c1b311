"""A worker that replaces another has what the first one had: the same limits and confinement, and no secret."""

import json
from pathlib import Path

import pytest

from tests import harness

STATUS = ("Umask", "Uid", "NoNewPrivs", "Seccomp", "THP_enabled")
SECRETS = {
    "CI_TOKEN": "planted-1",
    "AWS_SECRET_ACCESS_KEY": "planted-2",
    "PENSTOCK_PROMETHEUS__URL": "http://a:planted-3@127.0.0.1:1",
}
DECLARED = {"PENSTOCK_SECRETS": json.dumps({"ci": {"env": "CI_TOKEN"}})}


def facts(pid: int) -> dict[str, str]:
    """The limits of a process, and its rights."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}
    limits = Path(f"/proc/{pid}/limits").read_text()
    return {**{name: status[name] for name in STATUS if name in status}, "limits": limits}


def variables(pid: int) -> dict[str, str]:
    """The environment with which a process was started."""
    text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)


@pytest.mark.parametrize("declared", [{}, DECLARED], ids=["forked", "with a declared secret"])
def test_a_replaced_worker_is_as_the_first_one(tmp_path: Path, declared: dict[str, str]) -> None:
    env = {**SECRETS, **declared}
    with harness.running(None, tmp_path, "--workers", "1", env=env, program=harness.COMMAND) as server:
        (first,) = server.worker_pids()
        before, its_variables = facts(first), variables(first)
        server.kill_worker()
        (second,) = server.worker_pids()
        assert facts(second) == before
        assert before["Umask"] == "0077"
        assert "planted" not in json.dumps(variables(second))
        if declared:  # the first one is not a fork, whose memory would have what the gateway has read
            assert its_variables == variables(second)
