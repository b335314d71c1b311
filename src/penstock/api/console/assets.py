"""The static files of the console: read and hashed once, compressed once each, and stored by browsers for a year.

Lines that are only comments, and comments that state types, are not served: they are for readers of the source, and a
quarter of its size.

The digest of all files is in the path of each, so that a page of one release never gets a file of another.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.content_coding import preferred_coding
from penstock.core.errors import NotFound

FOLDER: Final = Path(__file__).with_name("static")
TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Files with another suffix are not served."""

DIGEST_CHARACTERS: Final = 16
IMMUTABLE: Final = "public, max-age=31536000, immutable"
_COMMENT_LINES: Final = re.compile(rb"^[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/[ \t]*|//[^\n]*)\n", re.MULTILINE)
"""Block comments and line comments that have their lines to themselves."""

_TYPES_IN_LINES: Final = re.compile(rb"/\*\* @(?:type|param) [^*\n]*\*/ ?")
"""Comments within a line that state the type of what follows."""

_VENDOR: Final = "vendor/"
_IMPORTS: Final = re.compile(r"""(?:^|[;}])\s*(?:import|export)\b[^"'();]*["'](\.[^"']+)["']""", re.MULTILINE)
"""Static imports of a module; what it loads later by ``import(…)`` is none."""

_GZIP_WINDOW: Final = 31
_LEVEL: Final = 9


class StaticFile:
    """One file; it is compressed when it is first asked for."""

    def __init__(self, name: str, body: bytes) -> None:
        self.content_type = TYPES[Path(name).suffix]
        self.body = body
        self._packed = b""

    @property
    def packed(self) -> bytes:
        """The body in gzip (RFC 1952) without a time, so that it is the same each time."""
        if not self._packed:
            packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
            self._packed = packer.compress(self.body) + packer.flush()
        return self._packed


class StaticFiles:
    """The files below a folder by their paths in it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.files = {name: StaticFile(name, _read(name, path)) for name, path in _files_in(folder)}
        hashed = sha256()
        for name, file in self.files.items():
            hashed.update(f"{name}\n{len(file.body)}\n".encode() + file.body)
        self.digest = hashed.hexdigest()[:DIGEST_CHARACTERS]
        self._modules: dict[str, tuple[str, ...]] = {}

    def modules_of(self, name: str) -> tuple[str, ...]:
        """Return a module and all that it imports, directly and by others; () if there is no such module."""
        if name not in self._modules:
            found: dict[str, None] = {}
            self._follow(name, found)
            self._modules[name] = tuple(found)
        return self._modules[name]

    def _follow(self, name: str, found: dict[str, None]) -> None:
        if name in found or name not in self.files:
            return
        found[name] = None
        for target in _IMPORTS.findall(self.files[name].body.decode()):
            self._follow(normpath(join(dirname(name), target)), found)

    def answer(self, request: Request) -> Response:
        """Return the response to a request for ``digest`` and ``name``; raises ``NotFound``."""
        file = self.files.get(request.path_params["name"])
        if file is None or request.path_params["digest"] != self.digest:
            raise NotFound("this release of the console has no such file; load the page again")
        fields = {"content-type": file.content_type, "cache-control": IMMUTABLE, "vary": "accept-encoding"}
        if preferred_coding(request.headers.get("accept-encoding", "").encode("latin-1")) == b"gzip":
            return Response(file.packed, headers={**fields, "content-encoding": "gzip"})
        return Response(file.body, headers=fields)


def _read(name: str, path: Path) -> bytes:
    """Return what is served of a file: a vendored one as it is, of our own what is no comment."""
    content = path.read_bytes()
    if name.startswith(_VENDOR) or path.suffix not in (".css", ".js"):
        return content
    return _TYPES_IN_LINES.sub(b"", _COMMENT_LINES.sub(b"", content))


def _files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in TYPES and path.is_file():
            yield path.relative_to(folder).as_posix(), path


@cache
def static_files() -> StaticFiles:
    """Return the files of this release; read when a page is first asked for, not at the start of a gateway."""
    return StaticFiles()
