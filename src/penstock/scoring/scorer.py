"""A picklable scorer for distributed engines: it holds a digest and a registry, and loads the model where it runs."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from penstock.core.errors import DataLoss
from penstock.core.texts import shorten

if TYPE_CHECKING:
    from penstock.scoring.local import LocalVersion

MOST_LOADED: Final = 4
"""Versions that a process keeps loaded."""


@dataclass(frozen=True, slots=True)
class _ScorerKey:
    """What a scorer is: a version by its digest, and the registry that it comes from ("" = as in the settings)."""

    registry: str
    model: str
    version: str
    digest: str
    threads: int


class _LoadedVersions:
    """The versions that this process has loaded: engines unpickle a scorer for each task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: OrderedDict[_ScorerKey, LocalVersion] = OrderedDict()

    def load(self, key: _ScorerKey) -> "LocalVersion":
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = _load(key)
            self._loaded.move_to_end(key)
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[key]


_LOADED: Final = _LoadedVersions()


class Scorer:
    """Scores Arrow record batches by one version of a model; any thread of any process may call it.

    It is what Ray Data, Spark and Dask send to their workers. Pickled, it is a registry, a version and a digest; the
    session is made in each process with the first batch, after the same checks as in a gateway: signatures, digests of
    the files, and the answers at admission. Every process needs access to the registry and its contents.

    The model runs in the process that calls, without the confinement of a gateway's workers.
    """

    def __init__(self, model: str, version: str = "", registry: str = "", threads: int = 1) -> None:
        """Choose a version: by its name or an alias, by default the champion or else the newest.

        ``registry`` is a folder or URL, by default that of the settings; ``threads`` run one operator.

        Raises:
            NotFound: there is no such version, or no such registry.
            NotReady: the registry cannot be reached.
        """
        from penstock.scoring.local import find_version  # noqa: PLC0415 - loads the engine, which unpickling need not

        record = find_version(registry, model, version)
        self._key = _ScorerKey(registry, model, record.version, record.content.digest, threads)

    def __call__(self, batch: Any) -> Any:
        """Return the outputs (``pyarrow.RecordBatch``) of the rows of a ``pyarrow.RecordBatch``, a row for each.

        Columns are found by name; columns that the model does not take are ignored.

        Raises:
            TypeError: the value is not a record batch.
            InvalidInput: a row does not fit, or a column is missing; the text names both.
            DataLoss: the registry has another content for the version than when the scorer was made.
        """
        return _LOADED.load(self._key).score(batch)

    def __repr__(self) -> str:
        """Return the model, version and digest."""
        return f"Scorer({self._key.model}:{self._key.version}, {self._key.digest[:19]})"

    @property
    def version(self) -> str:
        """The name of the version."""
        return self._key.version

    @property
    def digest(self) -> str:
        """The digest of the version's content."""
        return self._key.digest


def _load(key: _ScorerKey) -> "LocalVersion":
    from penstock.scoring.local import find_version, load_local  # noqa: PLC0415 - see above

    record = find_version(key.registry, key.model, key.version)
    if record.content.digest != key.digest:
        raise DataLoss(f"version '{shorten(key.version)}' of model '{shorten(key.model)}' has another content now")
    return load_local(key.registry, record, key.threads)
