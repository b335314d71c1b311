"""Finds a version of the registry, puts its content on this machine with the checks of a gateway, and loads it."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from penstock.app.confinement import is_required
from penstock.app.signatures import read_signature_policy
from penstock.config.settings import Settings
from penstock.control.reconcile.planner import MaterializedVersion
from penstock.control.sources.registry import PlacedContent, describe_placed
from penstock.core.desired import VersionSpec
from penstock.core.errors import DataLoss, NotFound, Refused
from penstock.core.frames.terms import names_in_order
from penstock.core.model_signing import UNSIGNED, SignedFiles
from penstock.core.versions import CHAMPION
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.engine.probe import compare
from penstock.monitor.columns import header_names
from penstock.monitor.reference import decode_reference
from penstock.registry.admission.examiner import AdmissionOptions, Examiner
from penstock.registry.blobs.verified_files import verified_files
from penstock.registry.config import model_config
from penstock.registry.location import location_of
from penstock.registry.records import ExaminedContent, ModelRecord, VersionRecord
from penstock.registry.registry import open_registry, usable_versions
from penstock.registry.signed_versions import SignedPlacer
from penstock.registry.signing.loading import check_signed
from penstock.registry.stores.monitor import MonitorStore

Document = dict[str, Any]

NO_REGISTRY: Final = "there is no registry '{}'; state the folder or URL of the one that has the model"


@dataclass(frozen=True, slots=True)
class VersionContent:
    """A version on this machine, as JSON has it: its identity, its digest (``sha256:`` and hex), where its graph and
    other files are, and what is known of its rows.

    ``files`` are the paths below ``root`` and their SHA-256 (hex); ``folder`` has the files that ``config`` names.
    ``probes`` is what the graph must answer. ``features`` are the names of the features, ``card`` those of the model
    card; ``reference`` is that of the monitor (None: it has none).
    """

    model: str
    version: str
    digest: str
    path: str
    root: str
    folder: str
    config: str
    files: tuple[tuple[str, str], ...]
    probes: str = ""
    features: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    reference: Document | None = None

    @property
    def title(self) -> str:
        """Return the model and the version as users write them."""
        return f"{self.model}:{self.version}"


class VersionFinder:
    """Finds versions in the registry of the settings. Calls block; of one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        """Open the registry.

        Raises:
            NotFound: there is none; scoring creates no registry.
            NotReady: it cannot be used now.
        """
        self._signatures = read_signature_policy(settings.admission.signatures)
        limits = settings.admission
        self._examination = AdmissionOptions(limits.seconds, limits.memory_bytes, is_required(settings))
        location = location_of(settings.registry, settings.home, settings.blobs)
        if location.is_absent:
            raise NotFound(NO_REGISTRY.format(location.database.removeprefix("sqlite:///")))
        self._registry = open_registry(location, limits.max_bytes, self._signatures)

    def find(self, name: str, selector: str = "") -> VersionRecord:
        """Return a version by its name, by an alias (with or without ``@``), or the one that serves.

        Raises:
            NotFound: there is none that may serve.
        """
        model = self._registry.store.model(name)
        version = choose_version(model, selector)
        record = model.versions.get(version)
        if record is None or version not in usable_versions(model):
            raise NotFound(f"model '{name}' has no version '{selector or version}' that may serve")
        return record

    def place(self, record: VersionRecord) -> VersionContent:
        """Put the content of a version on this machine, and check its signatures.

        Raises:
            Damaged: its content does not match its digest, or its record the signed files.
            NotReady: it cannot be reached.
            Refused: it is not signed as the settings ask.
        """
        folder, graph = self._registry.layout.materialize(record.content, record.rewrite)
        signed = self._signed_files(record, folder) if self._signatures.is_on else UNSIGNED
        placed = describe_placed(record, PlacedContent(folder, graph, signed))
        check_signed(self._signatures, record.model, _spec_of(record.version, placed))
        reference = MonitorStore(self._registry.store.connections).reference(record.model, record.version)
        card = (record.metadata.get("card") or {}).get("features") or {}
        return VersionContent(
            record.model,
            record.version,
            record.content.digest,
            placed.path,
            placed.root,
            placed.folder or placed.root,
            placed.config,
            placed.files,
            placed.probes,
            ordered_features(placed.features, reference),
            card,
            reference,
        )

    def _signed_files(self, record: VersionRecord, folder: Path) -> SignedFiles:
        signed = SignedPlacer(self._registry.signed, self._registry.layout, _no_plan)
        if record.rewrite is not None:
            asyncio.run(self._check_rewrite(record))
        return signed.place(record, folder)

    async def _check_rewrite(self, record: VersionRecord) -> None:
        """Check that the stored rewrite of a graph is what admission makes of the signed graph."""
        examiner = Examiner(self._examination)
        try:
            with self._registry.layout.original(record.content) as graph:
                plan = await examiner.plan(ExaminedContent(graph))
        finally:
            await examiner.close()
        if plan.rewrite != record.rewrite:
            raise DataLoss("its graph was not rewritten as this release does; push it again under a new version")


async def _no_plan(_: ExaminedContent) -> Any:
    raise Refused("rewrites are checked before")


def ordered_features(stated: tuple[str, ...], reference: Document | None) -> tuple[str, ...]:
    """Return the names of features in the order of the input, as gateways have them: a card may list them in any order,
    and the reference has that of the training data."""
    inputs = () if reference is None else decode_reference(reference).inputs
    return names_in_order(stated, header_names([item.bins.name for item in inputs]))


def choose_version(model: ModelRecord, selector: str) -> str:
    """Return the version that a selector names: a version, an alias, or "" for the champion or else the newest."""
    name = selector.removeprefix("@") or CHAMPION
    if name in model.aliases:
        return model.aliases[name].version
    usable = usable_versions(model)
    return name if selector else usable[-1] if usable else ""


def read_verified_graph(content: VersionContent) -> bytes:
    """Return the bytes of a version's graph, which have its digest; raises as ``load_version``."""
    root = Path(content.root)
    with verified_files(root, content.files) as anchor:
        return (anchor / os.path.relpath(content.path, root)).read_bytes()


def encode_content(content: VersionContent) -> Document:
    """Return a version's content as JSON values."""
    return asdict(content)


def decode_content(values: Mapping[str, Any]) -> VersionContent:
    """Return the content in JSON values."""
    files = tuple((str(path), str(digest)) for path, digest in values["files"])
    return VersionContent(**{**values, "files": files, "features": tuple(values["features"])})


def _spec_of(version: str, placed: MaterializedVersion) -> VersionSpec:
    return VersionSpec(
        version,
        placed.path,
        placed.folder,
        placed.config,
        root=placed.root,
        files=placed.files,
        probes=placed.probes,
        rows=placed.rows,
        signed=placed.signed,
    )


def load_version(content: VersionContent, threads: int = 1) -> Model:
    """Load a version from exactly the files with its digests, and check that it answers as it did at admission.

    Raises:
        Damaged: a file is missing or has other bytes, or the model answers differently.
        LoadFailed: this machine cannot run it.
    """
    root = Path(content.root)
    with verified_files(root, content.files) as anchor:
        graph, folder = (anchor / os.path.relpath(path, root) for path in (content.path, content.folder))
        options = model_config.read(content.config, folder)
        model = engine.load(graph, options, threads)
        difference = compare(json.loads(content.probes), model, options.warmup) if content.probes else ""
    if difference:
        model.close()
        raise DataLoss(difference)
    return model
