"""What a container engine makes of the Dockerfile's last stage, by mounts and namespaces of this machine: a read-only
root with the installed package, a volume, a user without rights, and a network of its own.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docs.terminals import network
from tests.harness import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[3]
SYSTEM = ("usr", "bin", "sbin", "lib", "lib64", "etc")

ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$R"
cd "$R"
for name in {system}; do
    if [ -L /$name ]; then cp -P /$name $name; elif [ -e /$name ]; then mkdir $name; mount --rbind /$name $name; fi
done
mkdir -m 755 proc sys dev tmp
mount --rbind /proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
{mounts}
mount -o remount,ro "$R"
exec chroot "$R" setpriv --reuid={user} --regid={group} --clear-groups --bounding-set=-all --inh-caps=-all \\
    --no-new-privs env --ignore-environment {environment} {command}
"""
"""A script that makes the folder ``$R`` the root of a container, and runs its command without rights."""


@dataclass(frozen=True, slots=True)
class Image:
    """What the last stage of the Dockerfile states."""

    environment: Mapping[str, str]
    user: str
    volume: str
    start: list[str]
    health: list[str]


def read_image() -> Image:
    """The last stage of the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stage = text[text.rindex("\nFROM ") :]

    def value(word: str) -> str:
        found = re.search(rf"^{word} (.*)$", stage, re.MULTILINE)
        assert found, word
        return found[1].strip()

    return Image(
        dict(item.split("=", 1) for item in shlex.split(value("ENV"))),
        value("USER"),
        value("VOLUME"),
        json.loads(value("ENTRYPOINT")) + json.loads(value("CMD")),
        json.loads(value("HEALTHCHECK").partition("CMD ")[2]),
    )


@dataclass(frozen=True, slots=True)
class Container:
    """A running container: its first process, its log, and how to run another one inside."""

    process: "subprocess.Popen[bytes]"
    log: Path
    user: str
    environment: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as ``docker exec`` does."""
        user, _, group = self.user.partition(":")
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root", "--wd=/"]
        rights = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--bounding-set=-all"]
        assigned = [f"{name}={value}" for name, value in self.environment.items()]
        whole = [*enter, *rights, "env", "--ignore-environment", *assigned, *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@contextmanager
def running(
    image: Image, program: Path, mounts: Mapping[str, Path], folder: Path, user: str, more: Mapping[str, str]
) -> Iterator[Container]:
    """The image's command with the package in the folder ``program``, until it is ready; ``mounts`` lie at their paths
    inside. The volume is ``folder/state``, empty as in the image, with the group 0."""
    state, root, log = folder / "state", folder / "root", folder / "log"
    for made in (state, root):
        made.mkdir()
    state.chmod(0o770)
    os.chown(state, int(image.user.partition(":")[0]), 0)
    environment = {**image.environment, **more}
    environment["PATH"] = f"{program}/bin:/usr/local/bin:/usr/bin:/bin"
    inside = {str(program): program, sys.base_prefix: Path(sys.base_prefix), **mounts}
    binds = [bind(there, here) for there, here in inside.items()]
    script = ENTER.format(
        system=" ".join(SYSTEM),
        mounts="\n".join([*binds, bind(image.volume, state, writable=True)]),
        user=user.partition(":")[0],
        group=user.partition(":")[2],
        environment=" ".join(shlex.quote(f"{name}={value}") for name, value in environment.items()),
        command=shlex.join(image.start),
    )
    with network() as enter, log.open("wb") as errors:
        process = subprocess.Popen(
            [*enter, "unshare", "--mount", "bash", "-c", script],
            env={**os.environ, "R": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
        )
        try:
            wait_until(lambda: b"penstock ready" in log.read_bytes() or process.poll() is not None, PATIENCE_S, "ready")
            assert process.poll() is None, log.read_text()
            yield Container(process, log, user, environment)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def bind(inside: str, here: Path, writable: bool = False) -> str:
    """The commands that mount ``here`` at the path ``inside`` of a root that is the folder at hand."""
    there, source = shlex.quote(inside.lstrip("/")), shlex.quote(str(here))
    make = f'mkdir -p "$(dirname {there})"; touch {there}' if here.is_file() else f"mkdir -p {there}"
    options = "" if writable else f"\nmount -o remount,bind,ro {there}"
    return f"{make}\nmount --bind {source} {there}{options}"


def obstacle() -> str:
    """Why this machine cannot do what a container engine does, or nothing."""
    if os.geteuid() != 0:
        return "only root mounts file systems and becomes another user"
    missing = [name for name in ("unshare", "nsenter", "setpriv", "chroot") if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""
