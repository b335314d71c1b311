"""The static files of the console: read, joined and hashed once, kept by browsers for a year. Each is made compact and
compressed when it is first asked for, so that the first page of a gateway does not wait for the scripts of all views.

The digest of all files is in the path of each, so that a page of one release never gets a file of another.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from posixpath import dirname, join, normpath
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.common.content_coding import preferred_coding
from penstock.api.console import compact
from penstock.api.console.bundle import SIGN_IN, join_modules, join_sources
from penstock.core.errors import NotFound
from penstock.engine.heap import trim_heap

FOLDER: Final = Path(__file__).with_name("static")
TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Files with another suffix are not served."""

STYLE: Final = "style.css"
"""The sheet of every page; those of views follow it."""

DIGEST_CHARACTERS: Final = 16
IMMUTABLE: Final = "public, max-age=31536000, immutable"
_COMPACT: Final = {".css": compact.compact_style, ".js": compact.compact_script}
"""By suffix; what is vendored and drawn is served as it is."""

_IMPORTS: Final = re.compile(r"""(?:^|[;}])\s*(?:import|export)\b[^"'();]*["'](\.[^"']+)["']""", re.MULTILINE)
"""Static imports of a served module; what it loads later by ``import(…)`` is none."""

_GZIP_WINDOW: Final = 31
_LEVEL: Final = 9
_MEMORY_LEVEL: Final = 9


class StaticFile:
    """One file; ``source`` is its text for people."""

    def __init__(self, name: str, source: bytes) -> None:
        suffix = Path(name).suffix
        self.content_type = TYPES[suffix]
        self.source = source
        self._compact = _COMPACT.get(suffix)

    @cached_property
    def body(self) -> bytes:
        """What is served."""
        return self._made_compact()

    def _made_compact(self) -> bytes:
        return self.source if self._compact is None else self._compact(self.source.decode()).encode()

    @cached_property
    def packed(self) -> bytes:
        """The body in gzip (RFC 1952) without a time, so that it is the same each time."""
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW, _MEMORY_LEVEL)
        packed = packer.compress(self._made_compact()) + packer.flush()
        trim_heap()
        return packed


class StaticFiles:
    """What is served, by path. ``file_of`` has the served file of each module that is joined with others."""

    def __init__(self, contents: Mapping[str, bytes], file_of: Mapping[str, str] = MappingProxyType({})) -> None:
        self.files = {name: StaticFile(name, content) for name, content in sorted(contents.items())}
        self.file_of = file_of
        hashed = sha256(Path(compact.__file__).read_bytes())
        for name, file in self.files.items():
            hashed.update(f"{name}\n{len(file.source)}\n".encode() + file.source)
        self.digest = hashed.hexdigest()[:DIGEST_CHARACTERS]
        self._modules: dict[str, tuple[str, ...]] = {}

    def modules_of(self, name: str) -> tuple[str, ...]:
        """Return the file of a module and all that it imports, directly and by others; () if there is none."""
        name = self.file_of.get(name, name)
        if name not in self._modules:
            found: dict[str, None] = {}
            self._follow(name, found)
            self._modules[name] = tuple(found)
        return self._modules[name]

    def _follow(self, name: str, found: dict[str, None]) -> None:
        if name in found or name not in self.files:
            return
        found[name] = None
        for target in _IMPORTS.findall(self.files[name].source.decode()):
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


def read_files(folder: Path = FOLDER) -> StaticFiles:
    """Return what is served of a folder: scripts and style sheets joined, what is vendored and drawn as it is."""
    contents = dict(_contents_of(folder))
    sources = {name: body.decode() for name, body in contents.items() if name.endswith(".js")}
    joined = join_modules(sources)
    scripts = {name: join_sources(sources, joined, name) for name in joined}
    alone = sources.keys() - {module for modules in joined.values() for module in modules}
    scripts |= {name: sources[name] for name in alone}
    styles = sorted((name for name in contents if name.endswith(".css")), key=lambda name: (name != STYLE, name))
    return StaticFiles(
        {name: body for name, body in contents.items() if not name.endswith((".js", ".css"))}
        | {name: text.encode() for name, text in scripts.items()}
        | {STYLE: b"".join(contents[name] for name in styles)},
        {module: name for name, modules in joined.items() if name != SIGN_IN for module in modules},
    )


def _contents_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in TYPES and path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


@cache
def static_files() -> StaticFiles:
    """Return the files of this release; read when a page is first asked for, not at the start of a gateway."""
    files = read_files()
    trim_heap()  # to join them takes many times their memory
    return files
