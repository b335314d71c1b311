"""The repositories that the settings name: folders of this machine and buckets, of many models or of one."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from penstock.config.settings import Settings
from penstock.control.sources.repositories import Repository
from penstock.core.errors import InvalidInput, NotReady
from penstock.registry.repository.local import LocalTree

_BUCKET = "s3://"


def repositories_of(settings: Settings) -> list[Repository]:
    """What is to be served; nothing where the registry is.

    Raises:
        InvalidInput: they cannot be served together, or a library is missing.
    """
    if settings.model_name and len(settings.models) != 1:
        raise InvalidInput("--model-name names the model that one folder is; give that folder, and no other")
    found = [_repository(stated, settings) for stated in settings.models]
    names = [one.tree.name for one in found]
    if len(set(names)) < len(names):
        raise InvalidInput("a model folder is given twice")
    return found


def identity(repositories: Sequence[Repository]) -> str:
    """Names repositories: what belongs to these does not belong to others."""
    trees = [one.tree for one in repositories]
    return "\n".join(os.path.realpath(tree.name) if isinstance(tree, LocalTree) else tree.name for tree in trees)


def check(repositories: Sequence[Repository]) -> None:
    """Look once at every folder of this machine, so that a wrong one is told before anything starts. One that
    cannot be read now may be right.

    Raises:
        InvalidInput: one is not there, or nothing in it looks like a model.
    """
    for repository in repositories:
        if isinstance(repository.tree, LocalTree):
            try:
                with suppress(NotReady):
                    repository.models()
            except InvalidInput as fault:
                raise InvalidInput(f"{repository.tree.name}: {fault}") from None


def _repository(stated: str, settings: Settings) -> Repository:
    name = settings.model_name
    if stated.startswith(_BUCKET):
        from penstock.registry.repository.bucket_tree import BucketTree  # noqa: PLC0415 - an extra

        return Repository(BucketTree(stated), name)
    path = Path(stated).expanduser().absolute()
    if name and path.is_file():
        return Repository(LocalTree(path.parent, one_model=True), name, path.name)
    return Repository(LocalTree(path, one_model=bool(name)), name)
