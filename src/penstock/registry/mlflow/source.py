"""Reads the ONNX models of an MLflow tracking server, with their versions, aliases and lineage.

MLflow's own client makes the requests; it is an extra, and imported when it is first needed. Everything here blocks.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.core.errors import InvalidInput, NotReady, Refused, TooLarge
from penstock.core.lineage import metadata_of
from penstock.core.model_signing import BUNDLE_BYTES, BUNDLE_FILE
from penstock.core.versions import is_alias, is_model_name, is_version
from penstock.registry.files import find_beneath, read_data
from penstock.registry.records import Document

log = logging.getLogger("penstock.registry")

SOURCE = "mlflow"
"""The ``source`` in the metadata of every version that came from MLflow."""

FLAVOUR = "onnx"
MOST_LISTED = 100_000
"""Greatest number of models, of versions of one, or of files of a version in a listing."""

REQUEST_S = "10"
TRIES = "1"


@dataclass(frozen=True, slots=True)
class MlflowVersion:
    """One model version of MLflow, with the aliases that lead to it."""

    model: str
    version: str
    run_id: str = ""
    aliases: tuple[str, ...] = ()


class MlflowSource:
    """The registered models of the server at ``url``; ``models`` selects some of them (none: all). No version of more
    than ``most_bytes`` is downloaded. Calls block."""

    def __init__(self, url: str, models: Sequence[str] = (), most_bytes: int = 16 << 30) -> None:
        self._url = url
        self._models = frozenset(models)
        self._most_bytes = most_bytes
        self._client: Any = None
        self._unfit: frozenset[str] = frozenset()

    def wanted(self) -> list[MlflowVersion]:
        """Return every version that is ready and has a name that is valid here.

        Raises:
            NotReady: the server does not answer.
            InvalidInput: MLflow's client is not installed.
        """
        client = self._connected()
        with _translating_errors():
            wanted = [
                (model.name, dict(model.aliases or {}))
                for model in _list_all(client.search_registered_models)
                if not self._models or model.name in self._models
            ]
            self._pass_over(frozenset(name for name, _ in wanted if not is_model_name(name)))
            fit = [(name, aliases) for name, aliases in wanted if name not in self._unfit]
            return [version for name, aliases in fit for version in self._versions(client, name, aliases)]

    def _pass_over(self, unfit: frozenset[str]) -> None:
        if unfit - self._unfit:
            log.warning("%d registered models of MLflow have a name that cannot be used here", len(unfit))
        self._unfit = unfit

    def _versions(self, client: Any, name: str, aliases: dict[str, Any]) -> list[MlflowVersion]:
        by_version: dict[str, list[str]] = {}
        for alias, version in aliases.items():
            if is_alias(alias):
                by_version.setdefault(str(version), []).append(alias)
        quoted = name.replace("'", "\\'")
        return [
            MlflowVersion(
                name, str(item.version), item.run_id or "", tuple(sorted(by_version.get(str(item.version), [])))
            )
            for item in _list_all(client.search_model_versions, f"name='{quoted}'")
            if item.status == "READY" and is_version(str(item.version))
        ]

    def download(self, wanted: MlflowVersion, into: Path) -> dict[str, Path]:
        """Download a version, and return its graph and the files with its weights, by name; of a signed version (with a
        ``model.sig``) the signature and every file that it names.

        Raises:
            Refused: it has no ONNX flavour.
            TooLarge: its files are larger than a version may be.
            NotReady: the server does not answer.
        """
        self._connected()
        from mlflow import artifacts  # noqa: PLC0415 - an extra, slow to import
        from mlflow.models import Model  # noqa: PLC0415

        with _translating_errors():
            uri = f"models:/{wanted.model}/{wanted.version}"
            urls = {"tracking_uri": self._url, "registry_uri": self._url}
            self._refuse_large(uri)
            folder = Path(artifacts.download_artifacts(uri, dst_path=str(into), **urls))
            flavour = Model.load(str(folder)).flavors.get(FLAVOUR)
        if not flavour:
            raise Refused("it has no ONNX flavour")
        try:
            graph = find_beneath(folder, str(flavour.get("data", "model.onnx")), "the graph")
        except InvalidInput as fault:
            raise Refused(str(fault)) from None
        if (folder / BUNDLE_FILE).is_file():
            return _signed_files(folder)
        from penstock.registry.admission.inspection import weight_files  # noqa: PLC0415 - imports the checker

        weights = [find_beneath(graph.parent, name, "the weights") for name in weight_files(graph)]
        root = graph.parent.resolve()
        return {"model.onnx": graph, **{str(path.relative_to(root)): path for path in weights}}

    def _refuse_large(self, uri: str) -> None:
        from mlflow import artifacts  # noqa: PLC0415 - an extra, slow to import

        folders, total, count = [uri], 0, 0
        while folders:
            for file in artifacts.list_artifacts(artifact_uri=folders.pop(), tracking_uri=self._url):
                count += 1
                total += file.file_size or 0
                if file.is_dir:
                    folders.append(f"{uri}/{file.path}")
            if total > self._most_bytes or count > MOST_LISTED:
                raise TooLarge(f"it has more than {self._most_bytes} bytes, or {MOST_LISTED} files")

    def lineage(self, wanted: MlflowVersion) -> Document:
        """Return the origin of a version as metadata of the registry; entries that are not valid there are left out."""
        metadata: Document = {"source": SOURCE, "tags": {"mlflow.version": wanted.version}}
        if not wanted.run_id:
            return metadata
        with _translating_errors():
            run = self._connected().get_run(wanted.run_id)
        metadata["tags"]["mlflow.run_id"] = wanted.run_id
        parts = {"parameters": dict(run.data.params), "metrics": dict(run.data.metrics)}
        commit = run.data.tags.get("mlflow.source.git.commit")
        for name, part in (*parts.items(), ("code_commit", commit)):
            if part:
                _add(metadata, name, part)
        return metadata

    def _connected(self) -> Any:
        if self._client is None:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", REQUEST_S)
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", TRIES)
            try:
                import mlflow  # noqa: PLC0415 - an extra, slow to import
                from mlflow.tracking import MlflowClient  # noqa: PLC0415
            except ModuleNotFoundError:
                raise InvalidInput("MLflow needs the extra 'mlflow': pip install 'penstock[mlflow]'") from None
            mlflow.set_tracking_uri(self._url)  # without it, MLflow starts a store in the working folder
            mlflow.set_registry_uri(self._url)
            self._client = MlflowClient(tracking_uri=self._url, registry_uri=self._url)
        return self._client


def _signed_files(folder: Path) -> dict[str, Path]:
    """Return the files that a signature names, and the signature itself; the registry checks them."""
    from penstock.registry.signing.bundle import parse_bundle, parse_manifest  # noqa: PLC0415 - few versions are signed

    bundle = find_beneath(folder, BUNDLE_FILE, "the signature")
    try:
        names = parse_manifest(parse_bundle(read_data(bundle, "the signature", BUNDLE_BYTES)).payload).files
        return {**{name: find_beneath(folder, name, "a signed file") for name in names}, BUNDLE_FILE: bundle}
    except InvalidInput as fault:
        raise Refused(f"its signature cannot be used: {fault}") from None


def _list_all(search: Any, query: str | None = None) -> Iterator[Any]:
    """Yield every result of a paged search; raises ``NotReady`` if the pages do not end."""
    token, count = None, 0
    while True:
        page = search(filter_string=query, page_token=token)
        yield from page
        count += max(1, len(page))
        token = page.token
        if not token:
            return
        if count > MOST_LISTED:
            raise NotReady("the MLflow server lists models without end")


def _add(metadata: Document, name: str, part: Any) -> None:
    """Add the entries of a part that are valid metadata, one by one."""
    if not isinstance(part, dict):
        with suppress(InvalidInput):
            metadata |= metadata_of({name: part})
        return
    for key, value in part.items():
        with suppress(InvalidInput):
            metadata[name] = metadata_of({name: {**metadata.get(name, {}), key: value}})[name]


@contextmanager
def _translating_errors() -> Iterator[None]:
    """Raise errors of MLflow's client within the block as faults."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - an extra

    try:
        yield
    except (MlflowException, OSError) as error:
        log.debug("MLflow: %s", error)
        raise NotReady("the MLflow server does not answer as it should") from None
