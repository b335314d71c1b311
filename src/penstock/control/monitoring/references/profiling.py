"""Profiles training data in a confined process: the data is untrusted, and running a model over it takes time."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from penstock.core.errors import DeadlineExceeded, InvalidInput
from penstock.engine.confinement.child import run_confined
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.scratch import scratch_folder
from penstock.registry.records import Document

SECONDS = 300.0
MOST_REASON = 400


def profile_file(data: Path, graph: Path, config: str, files: Path, features: Sequence[str] = ()) -> Document:
    """Return the reference of a version's training data as JSON values; blocks.

    ``config`` is the version's configuration (protobuf JSON), ``files`` the folder of the files that it names, and
    ``features`` the feature names of its model card.

    Raises:
        InvalidInput: the data does not fit the model, with the reason.
        DeadlineExceeded: profiling took too long.
        NotReady: a required layer of confinement is missing.
    """
    with scratch_folder(data.parent, "profile") as folder:
        output, options = folder / "reference.json", folder / "config.json"
        options.write_text(config or "{}")
        card = folder / "card.json"
        card.write_text(json.dumps({"features": dict.fromkeys(features, "")}))
        paths = AllowedPaths((data, graph.parent, files), (folder,))
        arguments = ["profile", str(data), "--model", str(graph), "-o", str(output)]
        arguments += ["--config", str(options), "--files", str(files), "--card", str(card)]
        try:
            done = run_confined("penstock", arguments, paths, SECONDS)
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"the data was not profiled within {SECONDS:g} s") from None
        if done.code:
            raise InvalidInput(_read_reason(done.errors, data.parent))
        document: Document = json.loads(output.read_text())
        return document


def _read_reason(stderr: bytes, home: Path) -> str:
    """Return the reason on the last line, without a path of this machine."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.startswith("penstock: ")]
    if not lines or str(home) in lines[-1]:
        return "the data cannot be profiled"
    return lines[-1].removeprefix("penstock: ")[:MOST_REASON]
