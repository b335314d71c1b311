"""Opens the repositories in the settings: local folders and buckets, of many models or of one."""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from penstock.config.settings import Settings
from penstock.control.instance.directory import make_private
from penstock.control.sources.repositories import RequestedModels, SourceRepository
from penstock.core.errors import InvalidInput, NotReady
from penstock.engine.scratch import scratch_file, temporary_folder
from penstock.registry.location import RegistryLocation
from penstock.registry.repository.local import LocalTree

log = logging.getLogger("penstock.app")

_BUCKET = "s3://"


def repositories_of(settings: Settings) -> list[SourceRepository]:
    """Return the repositories to serve; none if the registry is served.

    Raises:
        InvalidInput: they cannot be served together, or a library is missing.
    """
    if settings.model_name and len(settings.models) != 1:
        raise InvalidInput("--model-name needs exactly one model folder")
    repositories = [_build_repository(location, settings) for location in settings.models]
    if settings.sagemaker.multi_model and len(settings.models) != 1:
        raise InvalidInput("sagemaker.multi_model needs exactly one folder in models")
    names = [repository.tree.name for repository in repositories]
    if len(set(names)) < len(names):
        raise InvalidInput("the same model folder is given twice; remove one")
    return repositories


def identify_repositories(repositories: Sequence[SourceRepository]) -> str:
    """Return a text that identifies these repositories."""
    trees = [repository.tree for repository in repositories]
    return "\n".join(os.path.realpath(tree.name) if isinstance(tree, LocalTree) else tree.name for tree in trees)


def check(repositories: Sequence[SourceRepository]) -> None:
    """Check every local folder before the start. A folder that cannot be read now is not an error.

    Raises:
        InvalidInput: a folder does not exist or contains no model.
    """
    for repository in repositories:
        if isinstance(repository.tree, LocalTree):
            try:
                with suppress(NotReady):
                    repository.models()
            except InvalidInput as fault:
                raise InvalidInput(f"{repository.tree.name}: {fault}") from None


@cache
def copies_folder(location: RegistryLocation) -> Path:
    """Return the folder for the copies of versions: in the home, or below the folder for temporary files where the home
    cannot be written. The repository's own files are never served, because they may change at any time."""
    name = hashlib.sha256(os.fsencode(location.home)).hexdigest()[:16]
    temporary = temporary_folder() / f"penstock-copies-{os.geteuid()}"
    if not _is_writable(location.copies):
        with suppress(OSError):
            folder = make_private(make_private(temporary) / name)
            log.warning("the home cannot be written; models are copied to %s to be served", folder)
            return folder
    return location.copies


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch_file(folder, "probe").discard()
    except OSError:
        return False
    return True


def _build_repository(location: str, settings: Settings) -> SourceRepository:
    name = settings.model_name
    if location.startswith(_BUCKET):
        from penstock.registry.repository.bucket_tree import BucketTree  # noqa: PLC0415 - an extra

        return SourceRepository(BucketTree(location), name)
    path = Path(location).expanduser().absolute()
    if settings.sagemaker.multi_model:
        return SourceRepository(LocalTree(path), requested=RequestedModels())
    if name and path.is_file():
        return SourceRepository(LocalTree(path.parent, one_model=True), name, path.name)
    return SourceRepository(LocalTree(path, one_model=bool(name)), name)
