"""The confinement of processes that run models: what the settings require, what workers may use, what is reported."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock.app.repositories import copies_folder
from penstock.config.settings import Settings
from penstock.core.confinement import BEST_EFFORT, REQUIRED, ConfinementReport, Layer, Program, encode_report
from penstock.engine.confinement.confine import expect_layers
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.monitor.answer_segments import ANSWERS
from penstock.monitor.capture import CAPTURES
from penstock.registry.location import RegistryLocation
from penstock.serving.shared_memory import SEGMENTS
from penstock.telemetry.metrics import CONFINEMENT_LAYER
from penstock.telemetry.readings import Point

log = logging.getLogger("penstock.app")

_PROGRAMS = {Program.WORKER: "workers", Program.SANDBOX: "processes that examine, profile and compare models"}


def confinement_mode(settings: Settings) -> str:
    """Return ``required`` or ``best_effort``: as the settings say, else required where callers authenticate."""
    stated: str | None = settings.confinement
    if stated is not None:
        return stated
    return REQUIRED if settings.auth is not None and not settings.auth.dry_run else BEST_EFFORT


def is_required(settings: Settings) -> bool:
    """Whether nothing may run a model without every layer of confinement."""
    return confinement_mode(settings) == REQUIRED


def missing_layers(program: Program) -> str:
    """Return the layers that a program would lack on this system, as a text; "" for none."""
    return expect_layers(program).problem


def worker_paths(settings: Settings, location: RegistryLocation) -> AllowedPaths:
    """Return the folders that workers read, and those in which they write, in addition to their instance's; folders of
    the gateway's own are created, because only an existing folder can be allowed."""
    home = location.home
    readable = [_find_contents(location), location.unpacked, copies_folder(location), home / "references"]
    writable = [home / ANSWERS, home / CAPTURES]
    for folder in (*readable, *writable):
        with suppress(OSError):  # where nothing can be written, there is nothing of ours to read
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.shared_memory:
        writable.append(SEGMENTS)
    return AllowedPaths(tuple(readable), tuple(writable))


def _find_contents(location: RegistryLocation) -> Path:
    """Return the folder of contents by digest on this machine."""
    return (location.cache if location.blobs.startswith("s3://") else Path(location.blobs)) / "sha256"


def log_layers(settings: Settings) -> None:
    """Log which layers are in force, and warn of those that are missing."""
    mode = confinement_mode(settings)
    for program, text in _PROGRAMS.items():
        report = expect_layers(program)
        layers = ", ".join(report.in_force) or "none"
        if report.is_complete:
            log.info("confinement (%s) of %s: %s", mode, text, layers)
        else:
            log.warning("confinement (%s) of %s: %s; missing: %s", mode, text, layers, report.problem)


def describe_confinement(settings: Settings) -> dict[str, Any]:
    """Return the mode, and the layers of each kind of program, as JSON values."""
    programs = {str(program): encode_report(expect_layers(program)) for program in Program}
    return {"mode": confinement_mode(settings), **programs}


def readings() -> Iterable[Point]:
    """Yield for each layer of each kind of program whether it is in force."""
    for program in Program:
        report: ConfinementReport = expect_layers(program)
        for layer in Layer:
            yield Point(CONFINEMENT_LAYER, (str(program), str(layer)), int(layer in report.in_force))
