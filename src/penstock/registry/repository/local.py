"""A repository in a folder of this machine; links in it may lead to the owner's models, and nowhere else."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from penstock.core.errors import FaultReason, InvalidInput, NotReady, TooLarge
from penstock.registry.blobs.folder import CHUNK, translating_errors
from penstock.registry.files import MAX_TEXT_BYTES
from penstock.registry.repository.tree import LOST, TreeEntry, join_path

NO_FILE = FaultReason("it is not a plain file")
_OUTSIDE = "it is a link that leads out of the model folder"
_NO_CLONE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
_PIECE = 1 << 30
_ABOUT_THE_NAME = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.ENXIO,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}


class LocalTree:
    """The folder at ``root``; see ``Tree``.

    A link may lead to any path below the root or below the model's own folder, and into a cache of Hugging Face. The
    folder of a model may itself be a link to any path, because releases are switched that way. ``one_model`` says that
    the root is the folder of one model.
    """

    def __init__(self, root: Path, one_model: bool = False) -> None:
        self.name = str(root)
        self.root = root
        self._one_model = one_model
        self._roots: dict[str, tuple[Path, ...]] = {}

    def refresh(self) -> None:
        """See ``Tree``."""
        try:
            os.close(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except FileNotFoundError:
            raise InvalidInput("the model folder does not exist") from None
        except NotADirectoryError:
            raise InvalidInput("the model folder is not a folder") from None
        except PermissionError:
            raise InvalidInput("the model folder cannot be read by this user") from None
        except OSError as error:
            raise self._unavailable(error) from None
        self._roots = {}

    def entries(self, folder: str) -> Sequence[TreeEntry]:
        """See ``Tree``."""
        try:
            with os.scandir(self.root / folder) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except OSError as error:
            self._check(error)
            return []
        return [entry for name in names if (entry := self._entry(folder, name)) is not None]

    def _entry(self, folder: str, name: str) -> TreeEntry | None:
        path = self.root / folder / name
        is_link = False
        try:
            is_link = path.is_symlink()
            facts = path.stat()
        except OSError as error:
            self._check(error)
            return TreeEntry(name, is_folder=False, problem=LOST) if is_link else None
        is_folder = stat.S_ISDIR(facts.st_mode)
        problem = None if is_folder or stat.S_ISREG(facts.st_mode) else NO_FILE
        if is_link and problem is None and (folder or self._one_model or not is_folder):
            problem = self._outside(join_path(folder, name))
        return TreeEntry(name, is_folder, f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ino}", problem)

    def _check(self, error: OSError) -> None:
        """Raise ``NotReady`` for an error of the file system, and not for one of the requested name."""
        if error.errno not in _ABOUT_THE_NAME:
            raise self._unavailable(error) from None

    def _unavailable(self, error: OSError) -> NotReady:
        text = "the model folder cannot be read now; the gateway tries again"
        return NotReady(text, f"{text}: {self.root}: {error.strerror}")

    def _outside(self, path: str) -> FaultReason | None:
        real = Path(os.path.realpath(self.root / path))
        return (
            None
            if self._allows(path, real)
            else FaultReason(_OUTSIDE, f"{_OUTSIDE}: {self.root / path} leads to {real}")
        )

    def _allows(self, path: str, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self._allowed_folders(path.partition("/")[0]))

    def _allowed_folders(self, top: str) -> tuple[Path, ...]:
        """Return the folders in which the files of one entry of the root may be."""
        if top not in self._roots:
            own = [self.root.resolve()]
            if not self._one_model and (self.root / top).is_dir():
                own.append((self.root / top).resolve())
            self._roots[top] = (*own, *(blobs for folder in own for blobs in _blobs_of(folder)), *_hub_caches())
        return self._roots[top]

    def read(self, path: str, what: str) -> str:
        """See ``Tree``."""
        handle = self._open(path, what)
        try:
            if os.fstat(handle).st_size > MAX_TEXT_BYTES:
                raise InvalidInput(f"{what} is longer than {MAX_TEXT_BYTES} bytes")
            with translating_errors():
                return os.pread(handle, MAX_TEXT_BYTES, 0).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInput(f"{what} is not UTF-8 text") from None
        finally:
            os.close(handle)

    def copy(self, path: str, target: Path, limit: int) -> None:
        """See ``Tree``; on a file system that can clone, both files share their blocks until one is changed."""
        source = self._open(path, "the file")
        try:
            size = os.fstat(source).st_size
            if size > limit:
                raise TooLarge(f"the model's files are longer than admission allows ({limit} bytes left)")
            with translating_errors(), target.open("xb") as file:
                _copy(source, file.fileno(), size)
                os.fchmod(file.fileno(), 0o400)
                if file.seek(0, os.SEEK_END) != size:
                    raise NotReady("a file changed while it was copied; try again later")
        finally:
            os.close(source)

    def locate(self, path: str) -> Path:
        """Return the path of a file without resolving links; raises ``InvalidInput`` if it leads out of the
        repository."""
        os.close(self._open(path, "the file"))
        return self.root / path

    def _open(self, path: str, what: str) -> int:
        """Open a plain file, and check the opened file, so that no link can be exchanged in between."""
        try:
            handle = os.open(self.root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._check(error)
            raise InvalidInput(f"{what} is missing") from None
        real = Path(f"/proc/self/fd/{handle}").readlink()
        if stat.S_ISREG(os.fstat(handle).st_mode) and self._allows(path, real):
            return handle
        os.close(handle)
        raise InvalidInput(f"{what} is not a plain file inside the model folder", f"{self.root / path} is {real}")


def _blobs_of(folder: Path) -> Iterator[Path]:
    """Yield the folder with the files of a snapshot in a cache of Hugging Face: ``blobs`` beside the snapshots."""
    for parent in (folder, *folder.parents):
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):
            yield parent.parent / "blobs"


def _hub_caches() -> Iterator[Path]:
    """Yield the Hugging Face cache of this user, if it exists."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    if hub.is_dir():
        yield hub.resolve()


def _copy(source: int, target: int, size: int) -> None:
    """Copy all bytes; the kernel clones them if the file system can."""
    done = 0
    try:
        while done < size and (count := os.copy_file_range(source, target, min(size - done, _PIECE))):
            done += count
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        while chunk := memoryview(os.read(source, CHUNK)):
            while chunk:
                chunk = chunk[os.write(target, chunk) :]
