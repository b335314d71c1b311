"""`penstock serve` itself: reads its plain command lines without the parser of the other verbs, and runs the gateway.

Importing that parser takes a tenth of a start. What is not plain (``--help``, a mistake) is left to it.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from penstock.app.launch import launch
from penstock.app.start_failures import StartFailed
from penstock.core.texts import make_legible

CONFIG: Final = "--config"
CONFIG_VARIABLE: Final = "PENSTOCK_CONFIG"

OPTIONS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "--model-name": ("model_name", str),
    "--registry": ("registry", str),
    "--host": ("host", str),
    "--http-port": ("http_port", int),
    "--grpc-port": ("grpc_port", int),
    "--ops-port": ("ops_port", int),
    "--ops-host": ("ops_host", str),
    "--workers": ("workers", str),
    CONFIG: (CONFIG, Path),
    "--ready-file": ("ready_file", Path),
    "--max-body-bytes": ("limits.max_body_bytes", int),
    "--deadline": ("limits.deadline_seconds", float),
    "--drain-delay": ("stop.drain_delay_seconds", float),
    "--drain-timeout": ("stop.drain_timeout_seconds", float),
    "--orphan-grace": ("stop.orphan_grace_seconds", float),
    "--log-level": ("log_level", str),
}
"""The setting and the type of each option; a test compares them with those of the parser."""


SWITCHES: Final[Mapping[str, str]] = {"--insecure-no-auth": "insecure_no_auth"}
"""The setting of each option without a value."""


def run_plain(words: Sequence[str]) -> int | None:
    """Run a gateway with these words after `penstock serve`; None if they are for the parser.

    Returns:
        The exit code.
    """
    flags = read_plain(words)
    if flags is None:
        return None
    config = flags.pop(CONFIG, None) or os.environ.get(CONFIG_VARIABLE)
    return start(Path(config) if config else None, flags)


def read_plain(words: Sequence[str]) -> dict[str, Any] | None:
    """Return the values of the settings; None if a word is not an option, its value, or the name of a folder."""
    flags: dict[str, Any] = {}
    models: list[str] = []
    left = iter(words)
    for word in left:
        if not word.startswith("-"):
            models.append(word)
            continue
        if word in SWITCHES:
            flags[SWITCHES[word]] = True
            continue
        name, separator, value = word.partition("=")
        value = value if separator else next(left, "")
        if name not in OPTIONS or not value or value.startswith("-"):
            return None
        setting, convert = OPTIONS[name]
        try:
            flags[setting] = convert(value)
        except ValueError:
            return None
    return None if "" in models else {"models": models or None, **flags}


def start(config: Path | None, flags: Mapping[str, Any]) -> int:
    """Run a gateway until it is asked to stop; return the exit code, after a line on standard error for an error."""
    try:
        launch(config, flags)
    except StartFailed as fault:
        sys.stderr.write(f"penstock: {make_legible(str(fault))}\n")
        return int(fault.code)
    return 0
