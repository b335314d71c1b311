"""The services of a compose file as plain processes: the same commands, files, secrets, users without rights, addresses
and health checks, by mounts and namespaces of this machine in the place of a container engine and its images.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.docs.terminals import network
from tests.harness import PATIENCE_S, wait_until
from tests.integration.packaging.container import ENTER, SYSTEM, bind

Service = Mapping[str, Any]
HEALTH_PAUSE_S = 1.0
"""Between two health checks of a service, each of which starts a program. An engine waits for five times as long."""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image would bring: its user, folders with its programs, further folders, variables, and what its
    entrypoint does before it runs the command, as a script."""

    user: str
    programs: tuple[Path, ...] = ()
    mounts: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    before: str = ""


@dataclass(slots=True)
class Container:
    """A service that was started: how to enter its network, its process if it runs, and its log."""

    name: str
    enter: list[str]
    user: str
    environment: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def command(self, words: Sequence[str]) -> list[str]:
        """How to run a command inside, as ``docker exec`` does."""
        assert self.process is not None
        user, _, group = self.user.partition(":")
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root", "--wd=/"]
        rights = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--bounding-set=-all"]
        assigned = [f"{name}={value}" for name, value in self.environment.items()]
        return [*enter, *rights, "env", "--ignore-environment", *assigned, *words]

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end."""
        return subprocess.run(self.command(words), capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def log_text(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


class Stack:
    """The services of the compose file in ``folder``, each with a network address of its own on one bridge.

    ``images`` has what the image of each service would bring; services without are left out. ``state`` is for volumes
    and logs.
    """

    def __init__(self, folder: Path, images: Mapping[str, Image], state: Path) -> None:
        self._folder, self._images, self._state = folder, images, state
        document = yaml.safe_load((folder / "compose.yaml").read_text())
        self.secrets: Mapping[str, Any] = document["secrets"]
        self.services: dict[str, Service] = {
            name: service for name, service in document["services"].items() if name in images
        }
        self._subnet = document["networks"]["penstock"]["ipam"]["config"][0]["subnet"]
        self.addresses = dict(self._address(number, name) for number, name in enumerate(self.services, 100))
        self.containers: dict[str, Container] = {}
        self._exit = ExitStack()
        self.enter: list[str] = []

    def _address(self, number: int, name: str) -> tuple[str, str]:
        networks = self.services[name]["networks"]
        fixed = networks["penstock"]["ipv4_address"] if isinstance(networks, dict) else ""
        return name, fixed or f"{self._subnet.rpartition('.')[0]}.{number}"

    def __enter__(self) -> "Stack":
        self.enter = self._exit.enter_context(network())
        self._in_bridge("ip link add bridge type bridge && ip link set bridge up")
        gateway = f"{self._subnet.rpartition('.')[0]}.1/24"
        self._in_bridge(f"ip address add {gateway} dev bridge")
        self.hosts = self._hosts("hosts", localhost="127.0.0.1")
        return self

    def __exit__(self, *_: object) -> None:
        for container in reversed(self.containers.values()):
            if container.process is not None and container.process.poll() is None:
                container.process.kill()
                container.process.wait(PATIENCE_S)
        self._exit.close()

    def _in_bridge(self, script: str) -> None:
        subprocess.run([*self.enter, "sh", "-ec", script], check=True, timeout=PATIENCE_S)

    def _hosts(self, name: str, localhost: str) -> Path:
        path = self._state / name
        lines = [f"{localhost} localhost", *(f"{address} {host}" for host, address in self.addresses.items())]
        path.write_text("\n".join(lines) + "\n")
        return path

    def outside(self) -> list[str]:
        """How to run a command as on the machine of the engine: its published ports are on localhost."""
        published = self._hosts("published", self.addresses["proxy"])
        script = f'mount --make-rprivate / && mount --bind {published} /etc/hosts && exec "$@"'
        return [*self.enter, "unshare", "--mount", "sh", "-ec", script, "sh"]

    def up(self) -> None:
        """Start every service once what it depends on is as its conditions say."""
        while waiting := [name for name in self.services if name not in self.containers]:
            ready = [name for name in waiting if self._depends_on(name) <= self.containers.keys()]
            assert ready, f"these services wait for each other: {waiting}"
            for name in ready:
                for other in sorted(self._depends_on(name)):
                    self._wait_for(other, self.services[name]["depends_on"][other]["condition"])
                self.start(name)

    def wait_healthy(self) -> None:
        """Wait until every service that stays is healthy."""
        for name, service in self.services.items():
            if "healthcheck" in service:
                self._wait_for(name, "service_healthy")

    def _depends_on(self, name: str) -> set[str]:
        return {other for other in self.services[name].get("depends_on", {}) if other in self.services}

    def _wait_for(self, name: str, condition: str) -> None:
        container = self.containers[name]
        assert container.process is not None
        if condition == "service_completed_successfully":
            assert container.process.wait(PATIENCE_S) == 0, container.log_text()
            return
        assert condition == "service_healthy"

        def is_healthy() -> bool:
            assert container.process is not None
            assert container.process.poll() is None, f"{name} has ended\n{container.log_text()}"
            return self.check_health(name).returncode == 0

        wait_until(is_healthy, PATIENCE_S, lambda: f"{name} is healthy\n{container.log_text()}", HEALTH_PAUSE_S)

    def check_health(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the health check of a service once."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.containers[name].run(words)

    def start(self, name: str) -> Container:
        """Start a service, or start it anew."""
        service, image = self.services[name], self._images[name]
        enter = self.containers[name].enter if name in self.containers else self._plug(name)
        root = self._state / "roots" / name
        root.mkdir(parents=True, exist_ok=True)
        log = self._state / f"{name}.log"
        variables = {**image.environment, **service.get("environment", {})}
        folders = [*map(str, image.programs), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"]
        variables["PATH"] = ":".join(folders)
        user, _, group = image.user.partition(":")
        command = shlex.join([*service.get("entrypoint", []), *service["command"]])
        script = ENTER.format(
            system=" ".join(SYSTEM),
            mounts="\n".join(self._mounts(name)),
            user=user,
            group=group,
            environment=" ".join(shlex.quote(f"{key}={value}") for key, value in variables.items()),
            command=f"sh -ec {shlex.quote(image.before + 'exec ' + command)}",
        )
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [*enter, "unshare", "--mount", "bash", "-c", script],
                env={"R": str(root), "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self.containers[name] = Container(name, enter, image.user, variables, log, process)
        return self.containers[name]

    def _plug(self, name: str) -> list[str]:
        """A network of the service's own, with a cable to the bridge; how to enter it."""
        enter = self._exit.enter_context(network())
        inside = next(word for word in enter if word.startswith("--target=")).removeprefix("--target=")
        cable = f"v{len(self.containers)}"
        self._in_bridge(
            f"ip link add {cable} type veth peer name eth0 netns {inside} && ip link set {cable} master bridge up"
        )
        address = f"ip address add {self.addresses[name]}/24 dev eth0 && ip link set eth0 up"
        subprocess.run([*enter, "sh", "-ec", address], check=True, timeout=PATIENCE_S)
        return enter

    def _mounts(self, name: str) -> Iterator[str]:
        """The mounts of a service: temporary folders, and what may lie below them: of its image, secrets, volumes."""
        service, image = self.services[name], self._images[name]
        for folder in service.get("tmpfs", []):
            there = folder.lstrip("/")
            yield f"mkdir -p {there}; mount -t tmpfs -o mode=1777 tmpfs {there}"
        for path in (*image.programs, *image.mounts):
            yield bind(str(path), path)
        yield bind("/etc/hosts", self.hosts)
        for secret in service.get("secrets", []):
            yield bind(f"/run/secrets/{secret}", self._folder / self.secrets[secret]["file"])
        for text in service.get("volumes", []):
            source, inside, *options = text.split(":")
            if source.startswith("."):
                assert options == ["ro"], text
                yield bind(inside, (self._folder / source).resolve())
            else:
                yield bind(inside, self._volume(source, image.user), writable=True)

    def _volume(self, name: str, user: str) -> Path:
        """A named volume, which belongs to the user of the image."""
        path = self._state / "volumes" / name
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, *map(int, user.split(":")))
        return path
