"""A folder of models: Triton's layout (``model/version/model.onnx``) or flat files (``name.onnx``), mixed freely."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from penstock.core.errors import InvalidInput
from penstock.core.versions import VersionPolicy, is_model_name, is_version
from penstock.registry.files import beneath, read_text
from penstock.registry.honour import MODEL_FILENAME
from penstock.registry.model_config import parse_text, read

CONFIG_FILENAME = "config.pbtxt"
FLAT_VERSION = "1"
_SUFFIX = ".onnx"
_LAYOUTS = "expected name.onnx, or name/1/model.onnx"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model of the folder.

    ``versions`` leads from a version to its graph, ``broken`` from a version to why it has none; ``config`` is
    canonical ("" where none is stated); ``problem`` says why the model as a whole cannot be served.
    """

    name: str
    folder: Path
    versions: dict[str, Path] = field(default_factory=dict)
    config: str = ""
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    problem: str = ""
    broken: dict[str, str] = field(default_factory=dict)


class FolderSource:
    """Finds the models below ``root``; nothing is kept between scans."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def scan(self) -> list[FoundModel]:
        """Every model there is now, by name; a bad one carries its problem and does not hide the others.

        Raises:
            InvalidInput: the root is missing, no folder, or holds nothing that looks like a model.
        """
        if not self._root.is_dir():
            raise InvalidInput(f"the model folder {'is not a folder' if self._root.exists() else 'does not exist'}")
        found: dict[str, FoundModel] = {}
        for model in self._models():
            twice = f"the model is there twice, as a file and as a folder; {_LAYOUTS}"
            doubled = model.name in found
            found[model.name] = FoundModel(model.name, model.folder, problem=twice) if doubled else model
        if not found:
            raise InvalidInput(f"the model folder holds no model; {_LAYOUTS}")
        return [found[name] for name in sorted(found)]

    def _models(self) -> Iterator[FoundModel]:
        for entry in _entries(self._root):
            if entry.is_dir():
                if (entry / CONFIG_FILENAME).exists() or _version_folders(entry):
                    yield self._checked(entry.name, entry)
            elif entry.suffix == _SUFFIX and entry.is_file():
                yield self._checked(entry.stem, entry)

    def _checked(self, name: str, entry: Path) -> FoundModel:
        if not is_model_name(name):
            readable = name.encode("utf-8", "replace").decode()
            problem = "a model name is letters, digits and ._-, begins with a letter, digit or _, and has at most 128"
            return FoundModel(readable, entry, problem=problem)
        if entry.is_dir():
            return self._from_folder(name, entry)
        return self._from_file(name, entry)

    def _from_file(self, name: str, file: Path) -> FoundModel:
        folder = self._root / name
        try:
            return FoundModel(name, folder, {FLAT_VERSION: self._inside(file)})
        except InvalidInput as fault:
            return FoundModel(name, folder, broken={FLAT_VERSION: str(fault)})

    def _from_folder(self, name: str, folder: Path) -> FoundModel:
        found = _version_folders(folder)
        try:
            config = _config(name, folder)
            options = read(config, folder)
        except InvalidInput as fault:
            problem = str(fault)
            return FoundModel(name, folder, problem=problem, broken=dict.fromkeys(found, problem))
        versions: dict[str, Path] = {}
        policy = options.version_policy
        broken = dict.fromkeys(policy.specific, "the configuration asks for a version that is not there")
        for version, place in found.items():
            broken.pop(version, None)
            try:
                versions[version] = self._graph(place, options.filename)
            except InvalidInput as fault:
                broken[version] = str(fault)
        problem = "" if found else "the model has no version folder, such as 1"
        return FoundModel(name, folder, versions, config, policy, problem, broken)

    def _graph(self, version: Path, filename: str) -> Path:
        """The graph of one version: a file, or a folder that holds it beside its weights."""
        place = version / filename
        if not place.is_dir():
            return self._inside(place)
        inner = [place / name for name in (MODEL_FILENAME, filename) if (place / name).is_file()]
        return self._inside(inner[0] if inner else place / MODEL_FILENAME)

    def _inside(self, path: Path) -> Path:
        return beneath(self._root, str(path.relative_to(self._root)), "the model file")


def _config(name: str, folder: Path) -> str:
    if not (folder / CONFIG_FILENAME).exists():
        return ""
    what = "the model configuration"
    return parse_text(read_text(beneath(folder, CONFIG_FILENAME, what), what), name)


def _version_folders(folder: Path) -> dict[str, Path]:
    """Version to folder; other subfolders are none of the server's business."""
    return {entry.name: entry for entry in _entries(folder) if _names_version(entry.name) and entry.is_dir()}


def _names_version(name: str) -> bool:
    padded = name.isdecimal() and len(name) > 1 and name.startswith("0")
    return is_version(name) and not padded


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order, hidden things left out; nothing where it cannot be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
