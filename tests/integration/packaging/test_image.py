"""The image as far as it runs without a container engine: its command, environment and user over the compiled wheel."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from penstock.cli.console import ExitCode
from tests import zoo
from tests.certificates import issue, make_authority
from tests.docs.terminals import namespaces_missing
from tests.integration.packaging import container
from tests.integration.packaging.container import Container, Image

ANY_USER = "54321:0"
"""As platforms run images that give no rights to a user of their own: a random user in the group 0."""

DATA = "[[1, 2, 3]]"


class Mounted(NamedTuple):
    """What is mounted into containers, and the authority of the certificate."""

    mounts: dict[str, Path]
    authority: Path


@pytest.fixture(scope="module")
def image() -> Image:
    if because := container.obstacle() or namespaces_missing():
        pytest.skip(because)
    return container.read_image()


@pytest.fixture(scope="module")
def mounted(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Mounted:
    folder = tmp_path_factory.mktemp("mounted")
    authority = make_authority(folder / "tls")
    chain = issue(authority, folder / "tls", "server")
    chain.key.chmod(0o644)  # whoever runs the container may read it
    zoo.place(folder / "models", "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    (folder / "penstock.yaml").write_text(
        "tls: {certificate_file: /tls/server.pem, key_file: /tls/server.key}\nauth: {keys: true}\n"
    )
    mounts = {"/models": folder / "models", "/tls": folder / "tls", "/penstock.yaml": folder / "penstock.yaml"}
    return Mounted(mounts, authority.certificate)


@pytest.fixture(scope="module", params=["its own user", "any user"])
def running(
    request: pytest.FixtureRequest,
    image: Image,
    environment: Path,
    mounted: Mounted,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("container")
    user = image.user if request.param == "its own user" else ANY_USER
    more = {"PENSTOCK_CONFIG": "/penstock.yaml"}
    with container.running(image, environment, mounted.mounts, folder, user, more) as started:
        yield started


def test_it_has_no_rights(running: Container) -> None:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    user, _, group = running.user.partition(":")
    assert facts["Uid"].split() == [user] * 4 and facts["Gid"].split() == [group] * 4
    assert {facts[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert facts["NoNewPrivs"] == "1"
    for place in ("/here", "/models/here", "/tls/here", f"{running.environment['PATH'].partition(':')[0]}/here"):
        assert "Read-only file system" in running.run("touch", place).stderr


def test_only_data_and_health_are_open_to_others(running: Container) -> None:
    listening = set()
    for line in Path(f"/proc/{running.process.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            address, _, port = fields[1].partition(":")
            listening.add((address == "00000000", int(port, 16)))
    assert listening == {(True, 8000), (True, 8001), (True, 8003), (False, 8002)}


def test_its_health_check_passes(image: Image, running: Container) -> None:
    done = running.run(*image.health)
    assert done.returncode == 0, done.stderr


def test_what_runs_inside_is_compiled(running: Container) -> None:
    assert running.run("penstock", "version").stdout.rstrip().endswith("request path compiled")


def test_the_owner_inside_gives_keys_and_callers_predict(running: Container, mounted: Mounted) -> None:
    made = running.run("penstock", "keys", "create", "app", "--role", "caller", "--model", "m")
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"pk_\S+", made.stdout.strip())
    token = Path("/proc") / str(running.process.pid) / "root/var/lib/penstock/app.token"
    token.write_text(made.stdout)
    token.chmod(0o644)
    ask = ["penstock", "predict", "m", "--data", DATA, "--url", "https://localhost:8000", "--ca-file", _inside(mounted)]
    assert running.run(*ask).returncode == ExitCode.UNAUTHORISED
    done = running.run(*ask, "--token-file", "/var/lib/penstock/app.token")
    assert done.returncode == 0, done.stderr
    assert "3 5 7" in done.stdout


def _inside(mounted: Mounted) -> str:
    return f"/tls/{mounted.authority.name}"


def test_a_model_is_examined_and_confined_inside(running: Container) -> None:
    shown = running.run("curl", "--silent", "--unix-socket", "/var/lib/penstock/ops.sock", "http://localhost/metrics")
    layers = re.findall(r"^penstock_confinement_layer\{\S+\} (\S+)", shown.stdout, re.MULTILINE)
    assert len(layers) == 12 and set(layers) == {"1.0"}


def test_without_auth_it_does_not_start(image: Image, environment: Path, mounted: Mounted, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="auth"),
        container.running(image, environment, mounted.mounts, tmp_path, image.user, {}),
    ):
        pass


def test_it_ends_well(image: Image, environment: Path, mounted: Mounted, tmp_path: Path) -> None:
    more = {"PENSTOCK_CONFIG": "/penstock.yaml", "PENSTOCK_STOP__DRAIN_DELAY_SECONDS": "0"}
    with container.running(image, environment, mounted.mounts, tmp_path, image.user, more) as started:
        pass
    assert started.process.returncode == 0, started.log.read_text()
