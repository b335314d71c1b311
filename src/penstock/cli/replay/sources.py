"""What `penstock replay` reads and where it sends it: from the texts of the command line to files and a gateway."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePath
from typing import Final

from penstock.cli.addresses import choose_location, read_settings
from penstock.cli.client import Document
from penstock.cli.loadtest.target import TargetAddress, place_of
from penstock.cli.requests import BadData
from penstock.core.errors import Fault
from penstock.monitor.capture import CAPTURES, SUFFIX
from penstock.monitor.capture_parts import CapturePart, is_parquet, record_parts
from penstock.monitor.captured_tables import table_parts

FILE_SUFFIXES: Final = frozenset({SUFFIX, ".parquet"})
"""Endings of the files that can be replayed."""

_ADDRESS: Final = re.compile(r"(?:https?://)?(\[[0-9a-fA-F:]+\]|[^\s/:@]+):\d{1,5}/?")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model, and a version of it or an alias ("": none is stated)."""

    model: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Return what NAME[:V] names; raises ``BadData``."""
        name, colon, version = text.rpartition(":") if ":" in text else (text, "", "")
        if not name or (colon and not version):
            raise BadData(f"expected a model, alone or with a version: NAME[:V] (got '{text}')")
        return cls(name, version)


def is_address(text: str) -> bool:
    """Whether a text is the address of a gateway and not NAME:V: with http:// or https://, or an IP address or
    localhost with a port."""
    if text.startswith(("http://", "https://")):
        return True
    found = _ADDRESS.fullmatch(text)
    return found is not None and (found[1] == "localhost" or _is_ip(found[1].strip("[]")))


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def check_files(captures: Sequence[str]) -> None:
    """Check that files and folders exist: what does not is the name of a model, unless it is written as a path.

    Raises:
        BadData: one does not.
    """
    for text in captures:
        if ("/" in text or PurePath(text).suffix in FILE_SUFFIXES) and not Path(text).exists():
            raise BadData(
                f"there is no file or folder '{text}'; `penstock capture NAME -o {PurePath(text).name}` makes one"
            )


def target_of(to: str, model: str | None, captures: Sequence[str], by_grpc: bool) -> TargetAddress:
    """Return where requests go; raises ``BadData`` if nothing names the model, or if two options do."""
    if not is_address(to):
        if model is not None:
            raise BadData("--model belongs to an address; with --to NAME[:V] leave it out")
        target = ModelName.parse(to)
        return place_of(None, by_grpc, target.model, target.version)
    target = _model_at_address(model, captures)
    return place_of(
        to if to.startswith("https://") else to.removeprefix("http://").rstrip("/"),
        by_grpc,
        target.model,
        target.version,
    )


def _model_at_address(model: str | None, captures: Sequence[str]) -> ModelName:
    if model is not None:
        return ModelName.parse(model)
    names = {ModelName.parse(text).model for text in captures if not Path(text).exists()}
    if len(names) != 1:
        raise BadData("--to URL needs the model: give --model NAME[:V]")
    return ModelName(names.pop())


def parts_of(captures: Sequence[str], model: str, metadata: Document, registry: str | None) -> list[CapturePart]:
    """Return the parts of all captures; ``metadata`` is that of the model at the target.

    Raises:
        BadData: a capture does not exist, cannot be read or is empty.
    """
    parts: list[CapturePart] = []
    for text in captures:
        try:
            found = _parts_of(text, model, metadata, registry)
        except OSError as error:
            raise BadData(f"{text} cannot be read: {(error.strerror or 'error').lower()}") from None
        except Fault as fault:
            raise BadData(str(fault)) from None
        if not found:
            raise BadData(_nothing_to_replay(text, model))
        parts += found
    return parts


def _nothing_to_replay(text: str, model: str) -> str:
    if Path(text).exists():
        return f"{text} holds no captured requests of model '{model}'"
    return (
        f"'{text}' is not a file or folder, and the gateway on this machine has captured no requests of such a model; "
        "set 'capture' in the model's policy, or name a file"
    )


def _parts_of(text: str, model: str, metadata: Document, registry: str | None) -> list[CapturePart]:
    place = Path(text)
    if not place.exists():
        target = ModelName.parse(text)
        return record_parts(choose_location(read_settings(registry)).home / CAPTURES, target.model, target.version)
    if place.is_file() and is_parquet(place):
        return table_parts(place, metadata["inputs"], metadata["outputs"])
    return record_parts(place, model)
