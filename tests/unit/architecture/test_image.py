"""What a container engine would find out about the Dockerfile, as far as reading it tells."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from penstock.cli import VERBS

ROOT = Path(__file__).parents[3]

Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def stages() -> list[list[Instruction]]:
    """The instructions of each stage; what comes before the first FROM is left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest.strip()))
    return found


def value(stage: list[Instruction], word: str) -> str:
    (found,) = [rest for name, rest in stage if name == word]
    return found


def test_both_stages_stand_on_the_same_slim_base_by_its_digest(stages: list[list[Instruction]]) -> None:
    assert [value(stage, "FROM").split()[0] for stage in stages] == ["python:${PYTHON}@${DIGEST}"] * 2
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.search(r"^ARG DIGEST$", text, re.MULTILINE)  # without a default: nobody builds on whatever the tag is
    assert "org.opencontainers.image.base.digest=${DIGEST}" in value(stages[-1], "LABEL")


def test_the_image_lists_its_packages(stages: list[list[Instruction]]) -> None:
    """CycloneDX, made by a tool that is pinned by hashes and stays out of the image."""
    built = " ".join(rest for word, rest in stages[0] if word == "RUN")
    assert "/opt/sbom/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r sbom.lock" in built
    assert "cyclonedx-py environment" in built and "--output-file /opt/penstock/sbom.cdx.json" in built
    assert "\ncyclonedx-bom==" in (ROOT / "deploy" / "sbom.lock").read_text()
    assert next(rest.split()[-1] for word, rest in stages[-1] if word == "COPY") == "/opt/penstock"


def test_a_compiler_that_fails_ends_the_build(stages: list[list[Instruction]]) -> None:
    (installed,) = [
        rest for word, rest in stages[0] if word == "RUN" and "pip install --no-cache-dir --no-deps" in rest
    ]
    assert """in *"request path compiled") ;; *) exit 1 ;; esac""" in installed


def test_state_has_a_volume_that_any_user_of_the_group_may_write(stages: list[list[Instruction]]) -> None:
    final = stages[-1]
    volume = value(final, "VOLUME")
    assert f"PENSTOCK_HOME={volume}" in value(final, "ENV").split()
    user, _, group = value(final, "USER").partition(":")
    assert ("COPY", f"--from=build --chown={user}:{group} /state {volume}") in final
    assert "install --directory --group=0 --mode=0770 /state" in " ".join(rest for _, rest in stages[0])


def test_the_image_runs_without_rights_and_says_what_it_offers(stages: list[list[Instruction]]) -> None:
    final = stages[-1]
    assert re.fullmatch(r"[1-9]\d*:0", value(final, "USER"))
    assert value(final, "EXPOSE").split() == ["8000", "8001", "8003"]
    names = [name for name, _ in final]
    assert "RUN" not in names  # everything is built in the first stage
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_entrypoint_and_health_check_are_verbs_of_the_command_line(stages: list[list[Instruction]]) -> None:
    final = stages[-1]
    health = json.loads(value(final, "HEALTHCHECK").partition("CMD ")[2])
    start = json.loads(value(final, "ENTRYPOINT")) + json.loads(value(final, "CMD"))
    assert health[0] == start[0] == "penstock"
    assert "--insecure-no-auth" not in start
    assert {health[1], start[1]} <= VERBS.keys()


def test_only_data_and_health_leave_the_container(stages: list[list[Instruction]]) -> None:
    set_there = dict(text.split("=") for text in value(stages[-1], "ENV").split())
    assert (set_there["PENSTOCK_HOST"], set_there["PENSTOCK_OPS_HOST"]) == ("0.0.0.0", "127.0.0.1")
    assert (set_there["PENSTOCK_HEALTH_HOST"], set_there["PENSTOCK_HEALTH_PORT"]) == ("0.0.0.0", "8003")
    assert not any("OPS_PORT" in name or "INSECURE" in name for name in set_there)


def test_everything_copied_exists_and_is_not_ignored(stages: list[list[Instruction]]) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for word, rest in stages[0]:
        for source in rest.split()[:-1] if word == "COPY" else []:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in kept), source


def test_the_image_holds_what_serving_and_a_fleet_need_and_nothing_of_the_demo() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    run, _, beyond = lock.partition("\n# [demo]")
    demo, _, dev = beyond.partition("\n# [dev]")
    assert all(f"\n{name}==" in run for name in ("onnxruntime", "grpcio", "httptools", "setuptools"))
    assert "\nscikit-learn==" in demo
    assert "\npytest==" in dev
    assert not re.search(r"https?://", lock)
    extras = (ROOT / "deploy" / "extras.lock").read_text()
    assert all(f"\n{name}==" in extras for name in ("joserfc", "obstore", "psycopg", "psycopg-binary"))
