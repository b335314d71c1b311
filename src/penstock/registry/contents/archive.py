"""Contents of more than one file: unpacks untrusted tars, and packs files reproducibly.

A tar may hold regular files and folders with plain relative names. All other entries are refused.
"""

import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from penstock.core.errors import DataLoss, InvalidInput, Refused, TooLarge
from penstock.registry.blobs.folder import PREFIX, hash_file, translating_errors
from penstock.registry.config import model_config
from penstock.registry.files import read_text
from penstock.registry.records import Content, FileRecord

if TYPE_CHECKING:
    import tarfile

GRAPH = "model.onnx"
CONFIG = "config.pbtxt"
MOST_FILES = 10_000
DEEPEST = 16
CHUNK = 1 << 20
RATIO = 200
"""Greatest factor by which a compressed tar may grow."""
BLOCK_BYTES = 512
"""What a tar consists of, by POSIX."""

_PART = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")
_GZIP = b"\x1f\x8b"


def receive(path: Path, into: Path, limit: int) -> Content:
    """Return the received content at ``path``: a bare graph, or a tar, which is unpacked into the empty folder
    ``into``.

    ``limit`` is the greatest number of unpacked bytes.

    Raises:
        Refused: it is neither, or a tar with forbidden entries or without a graph.
        TooLarge: it exceeds the limit.
        NotReady: the disk is full.
    """
    digest, size = hash_file(path), path.stat().st_size
    with path.open("rb") as file:
        if not _is_tar(file):
            return Content(digest, size, "onnx", (FileRecord(GRAPH, digest.removeprefix(PREFIX), size),))
        with translating_errors():
            into.mkdir(mode=0o700, exist_ok=True)
        files = tuple(_unpack(file, into, min(limit, max(size, CHUNK) * RATIO)))
    config = _find_config(into)
    graph = _find_graph(files, config, into)
    return Content(digest, size, "tar", files, graph, config)


def unpack(path: Path, into: Path) -> None:
    """Unpack a tar that was received before; raises as ``receive``."""
    with translating_errors():
        into.mkdir(mode=0o700, exist_ok=True)
    with path.open("rb") as file:
        for _ in _unpack(file, into, limit=1 << 62):
            pass


def pack(files: dict[str, Path]) -> Iterator[bytes]:
    """Yield a tar of these files, by name; the same names and contents give the same bytes.

    Raises:
        InvalidInput: a file cannot be read, or changed meanwhile.
    """
    for name, path in sorted(files.items()):
        try:
            with path.open("rb") as file:
                yield from _read_member(name, file)
        except OSError as error:
            raise InvalidInput(f"'{name}' cannot be read: {(error.strerror or 'error').lower()}") from None
    yield bytes(2 * BLOCK_BYTES)


def packed_size(files: dict[str, Path]) -> int:
    """Return the number of bytes that ``pack`` yields."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    heads = sum(len(_make_head(name, size)) for name, size in sizes.items())
    return heads + sum(size + -size % BLOCK_BYTES for size in sizes.values()) + 2 * BLOCK_BYTES


def _make_head(name: str, size: int) -> bytes:
    import tarfile  # noqa: PLC0415 - few gateways see a tar

    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _read_member(name: str, file: IO[bytes]) -> Iterator[bytes]:
    size = os.fstat(file.fileno()).st_size
    yield _make_head(name, size)
    left = size
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            raise InvalidInput(f"'{name}' became shorter while it was read")
        left -= len(chunk)
        yield chunk
    yield bytes(-size % BLOCK_BYTES)


def _is_tar(file: IO[bytes]) -> bool:
    head = file.read(BLOCK_BYTES)
    file.seek(0)
    return head.startswith(_GZIP) or head[257:262] == b"ustar"


def _unpack(file: IO[bytes], into: Path, limit: int) -> Iterator[FileRecord]:
    """Write every file of a tar below ``into``, and yield its record."""
    import tarfile  # noqa: PLC0415 - few gateways see a tar

    compressed = file.read(2) == _GZIP
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if compressed else file
    names: set[str] = set()
    try:
        with tarfile.open(fileobj=_Bounded(stream, limit), mode="r|") as archive:
            for member in archive:
                if len(names) >= MOST_FILES:
                    raise Refused(f"the tar holds more than {MOST_FILES} entries")
                name = _safe_name(member, names)
                if member.isdir():
                    continue
                data = archive.extractfile(member)
                if data is not None:
                    yield _write(data, into, name, member.size)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError, OverflowError):
        raise Refused("it is neither an ONNX graph nor a tar that can be read") from None


class _Bounded(io.RawIOBase):
    """A stream that raises ``TooLarge`` after ``limit`` bytes and an allowance for the entries' headers."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = limit + 1024 * BLOCK_BYTES * 2

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; raises ``TooLarge``."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge("the tar unpacks to more than is allowed")
        return data


def _safe_name(member: "tarfile.TarInfo", names: set[str]) -> str:
    """Return the normalized name of a member.

    Raises:
        Refused: it is not a regular file or folder, or its name is not plain.
    """
    kinds = {b"1": "a hard link", b"2": "a symbolic link", b"6": "a pipe"}  # as POSIX numbers them
    if member.issparse():
        raise Refused("the tar holds a sparse file; only plain files are taken")
    if not (member.isreg() or member.isdir()):
        raise Refused(f"the tar holds {kinds.get(member.type, 'a device')}; only plain files are taken")
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts:
        raise Refused("the tar holds a name that leads outside of it")
    if len(parts) > DEEPEST or not all(_PART.fullmatch(part) for part in parts):
        raise Refused("the tar holds a name that is too long, too deep or has unreadable characters")
    name = "/".join(parts)
    if name in names or (not name and not member.isdir()):
        raise Refused("the tar holds a name twice")
    names.add(name)
    return name


def _write(data: IO[bytes], into: Path, name: str, size: int) -> FileRecord:
    path = into / PurePosixPath(name)
    hashed = hashlib.sha256()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError):
        raise Refused("the tar holds a name both as a file and as a folder") from None
    with file, translating_errors():
        while chunk := data.read(CHUNK):
            hashed.update(chunk)
            file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), 0o400)
    if path.stat().st_size != size:
        raise Refused("the tar ends in the middle of a file")
    return FileRecord(name, hashed.hexdigest(), size)


def check_described(content: Content, folder: Path) -> None:
    """Check that the configuration and the graph of a content are those that its files state.

    Raises:
        Damaged: they are not, so somebody has changed the record of the content.
    """
    try:
        config = _find_config(folder)
        same = content.config == config and content.graph == _find_graph(content.files, config, folder)
    except Refused:
        same = False
    if not same:
        raise DataLoss("its configuration or its graph is not the one that its files state")


def _find_config(folder: Path) -> str:
    path = folder / CONFIG
    if not path.is_file():
        return ""
    try:
        text = model_config.parse_text(read_text(path, "the model configuration"))
        model_config.read(text, folder)
    except InvalidInput as fault:
        raise Refused(str(fault)) from None
    return text


def _find_graph(files: tuple[FileRecord, ...], config: str, folder: Path) -> str:
    names = [file.path for file in files]
    stated = model_config.read(config, folder).filename
    for name in (stated, GRAPH):
        if name in names:
            return name
    graphs = [name for name in names if name.endswith(".onnx")]
    if len(graphs) == 1:
        return graphs[0]
    raise Refused(f"the tar holds {len(graphs) or 'no'} graphs; expected one, named {GRAPH}")
