"""Writes the libraries of the console into its static files, from the packages that npm fetches and verifies.

Run it as ``python deploy/vendor_console.py`` after a change of a version here. ``MANIFEST.json`` beside the files says
where each comes from; a test compares the files with it.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "src/penstock/api/console/static/vendor"


@dataclass(frozen=True)
class Library:
    """One file of one package, with the replacements that make it load without a bundler."""

    package: str
    version: str
    licence: str
    path: str
    file: str
    changes: tuple[tuple[str, str], ...] = ()


LIBRARIES = (
    Library(
        "preact", "11.2.0", "MIT", "dist/preact.mjs", "preact.mjs", (("\n//# sourceMappingURL=preact.mjs.map", ""),)
    ),
    Library(
        "preact",
        "11.2.0",
        "MIT",
        "hooks/dist/hooks.mjs",
        "hooks.mjs",
        (('from"preact"', 'from"./preact.mjs"'), ("\n//# sourceMappingURL=hooks.mjs.map", "")),
    ),
    Library("htm", "3.1.1", "Apache-2.0", "dist/htm.mjs", "htm.mjs"),
)


def main() -> None:
    """Fetch the packages and write their files, licences and the manifest."""
    archives = {library.package: fetch(library.package, library.version) for library in LIBRARIES}
    for file in FOLDER.glob("*"):
        if file.suffix != ".mts":  # the types are written by hand
            file.unlink()
    entries = [write(library, archives[library.package]) for library in LIBRARIES]
    (FOLDER / "MANIFEST.json").write_text(json.dumps(entries, indent=2) + "\n")


def fetch(package: str, version: str) -> bytes:
    """Return the archive of a package; npm verifies its integrity."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=folder, check=True, timeout=120)  # noqa: S607
        (archive,) = Path(folder).glob("*.tgz")
        return archive.read_bytes()


def write(library: Library, archive: bytes) -> dict[str, Any]:
    """Write a file and its licence; return its entry of the manifest."""
    text = member(archive, library.path)
    for before, after in library.changes:
        if text.count(before) != 1:
            raise ValueError(f"{library.file}: {before!r} is there {text.count(before)} times, not once")
        text = text.replace(before, after)
    (FOLDER / library.file).write_text(text)
    licence = f"LICENSE.{library.package.rpartition('/')[2]}.txt"
    (FOLDER / licence).write_text(member(archive, "LICENSE"))
    return {
        "file": library.file,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "package": library.package,
        "version": library.version,
        "licence": library.licence,
        "licence_file": licence,
        "integrity": f"sha512-{b64encode(hashlib.sha512(archive).digest()).decode()}",
        "path": library.path,
        "changes": [list(change) for change in library.changes],
    }


def member(archive: bytes, path: str) -> str:
    """Return a text file of a package."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        content = files.extractfile(f"package/{path}")
        if content is None:
            raise FileNotFoundError(path)
        return content.read().decode()


if __name__ == "__main__":
    main()
