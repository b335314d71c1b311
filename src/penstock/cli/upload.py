"""Reads a model to push: a graph, a tar, or files that are packed as a tar on the way."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20


class BadModel(ValueError):
    """The path has no model; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes to push: their number, media type, and the chunks."""

    size: int
    kind: str
    chunks: Iterator[bytes]


def read_upload(path: Path) -> Upload:
    """Return the bytes to push for a graph (with the weights beside it), a tar, or a folder.

    Raises:
        BadModel: the path is none of these.
    """
    if path.is_dir():
        files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
        files = {name: file for name, file in files.items() if not _is_hidden(name)}
        if not files:
            raise BadModel(f"{path} contains no files")
        return _pack_files(files)
    if not path.is_file():
        raise BadModel(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    if path.suffix == ".onnx":
        from penstock.registry.admission.inspection import weight_files

        if weights := weight_files(path):
            return _pack_files({path.name: path, **{name: _find_beside(path, name) for name in weights}})
    size = path.stat().st_size
    return Upload(size, "application/octet-stream", _read_chunks(path, size))


def _is_hidden(name: str) -> bool:
    """Whether a file belongs to another tool: version control, caches, desktops."""
    return any(part.startswith(".") for part in Path(name).parts)


def _find_beside(graph: Path, name: str) -> Path:
    file = graph.parent / name
    if not file.is_file() or not file.resolve().is_relative_to(graph.parent.resolve()):
        raise BadModel(f"the graph needs the weight file '{name}', which is not beside it")
    return file


def _pack_files(files: dict[str, Path]) -> Upload:
    from penstock.registry.contents.archive import pack, packed_size

    return Upload(packed_size(files), "application/x-tar", pack(files))


def _read_chunks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size:
            chunk = file.read(min(CHUNK, size))
            if not chunk:
                raise BadModel(f"{path} became shorter while it was read")
            size -= len(chunk)
            yield chunk
