"""Finds the models of a repository, in four layouts that may be mixed freely: Triton's (``model/version/model.onnx``),
Hugging Face's (``model/onnx/model.onnx``), a graph in a folder (``model/model.onnx``), and a file (``name.onnx``).

Nothing is skipped silently: an entry that looks like a model and cannot be served is reported by name, with the reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from penstock.core.errors import FaultReason, InvalidInput
from penstock.core.model_signing import BUNDLE_FILE
from penstock.core.texts import make_legible
from penstock.core.versions import VersionPolicy, is_model_name, is_version, looks_alike
from penstock.registry.config.model_config import parse_text, referenced_files
from penstock.registry.config.supported_config import MODEL_FILENAME
from penstock.registry.repository.tree import LOST, FileTree, TreeEntry, join_path

CONFIG_FILENAME = "config.pbtxt"
ONLY_VERSION = "1"
"""The version of a graph outside of a version folder."""

_SUFFIX = ".onnx"
_HUB_FOLDER = "onnx"
_WARMUP_FOLDER = "warmup"
_LAYOUTS = "expected name.onnx, name/model.onnx or name/1/model.onnx"
_MISSING = FaultReason("the model file is missing")
_NO_VERSION = FaultReason("the model has no version folder, such as 1, and no graph, such as model.onnx")
_NO_NAME = FaultReason("a model name is letters, digits and ._-, begins with a letter, digit or _, and has at most 128")
_NO_SUCH_VERSION = FaultReason("the configuration selects a version that does not exist")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model of a repository; paths are those of its tree.

    ``versions`` maps a version to its graph, and ``broken`` a version to the reason why it has none. ``config`` is the
    canonical configuration ("" without one), and ``files`` are the files below ``folder`` that it references.
    ``problem`` says why the whole model cannot be served, ``notes`` which files are ignored, and ``is_file`` that the
    model is a single file.
    """

    name: str
    folder: str
    versions: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    files: tuple[str, ...] = ()
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    problem: FaultReason | None = None
    broken: Mapping[str, FaultReason] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_file: bool = False


def find_models(tree: FileTree) -> list[FoundModel]:
    """Return every model of a repository by name; a broken one has a problem and does not hide the others.

    Raises:
        InvalidInput: there is no such repository, or it holds no model.
        NotReady: it cannot be reached.
    """
    tree.refresh()
    models: dict[str, FoundModel] = {}
    for model in _iterate_models(tree):
        twice = FaultReason(f"the model exists twice, as a file and as a folder; {_LAYOUTS}")
        is_duplicate = model.name in models
        models[model.name] = FoundModel(model.name, model.folder, problem=twice) if is_duplicate else model
    if all(model.problem == _NO_VERSION and not model.config for model in models.values()):
        raise InvalidInput(f"the model folder holds no model; {_LAYOUTS}")
    return [models[name] for name in sorted(models)]


def one_model(tree: FileTree, name: str, file: str = "") -> FoundModel:
    """Return the model of a repository with a single model; ``file`` is its graph if it is not a folder.

    Raises:
        InvalidInput: there is no such repository, it holds no model, or the name is not valid.
        NotReady: it cannot be reached.
    """
    tree.refresh()
    if not is_model_name(name):
        raise InvalidInput(_NO_NAME.text)
    if file:
        return FoundModel(name, "", {ONLY_VERSION: file}, is_file=True)
    model = _from_folder(tree, name, "")
    if model.problem == _NO_VERSION:
        raise InvalidInput(
            f"the model's folder holds no version folder, such as 1, and no graph, such as {MODEL_FILENAME}"
        )
    return model


def unpacked_model(tree: FileTree, name: str, folder: str) -> FoundModel:
    """Return the model that an archive held, unpacked to ``folder``: in it, or in the only folder in it. Its
    configuration may state another name than the one it is served by.

    Raises:
        NotReady: it cannot be reached.
    """
    model = _from_folder(tree, name, folder, is_renamed=True)
    if model.problem == _NO_VERSION:
        inner = [join_path(folder, entry.name) for entry in tree.entries(folder) if entry.is_folder]
        if len(inner) == 1:
            return _from_folder(tree, name, inner[0], is_renamed=True)
    return model


def _iterate_models(tree: FileTree) -> Iterator[FoundModel]:
    for entry in tree.entries(""):
        is_graph = entry.name.endswith(_SUFFIX)
        if entry.is_folder or (is_graph and entry.name != _SUFFIX):
            name = entry.name if entry.is_folder else entry.name.removesuffix(_SUFFIX)
            if not is_model_name(name):
                yield _misnamed_model(tree, name, entry)
            elif entry.is_folder:
                yield _from_folder(tree, name, entry.name)
            else:
                yield _from_file(name, entry)
        elif entry.problem == LOST and is_model_name(entry.name):  # it may be a link to the folder of a model
            yield FoundModel(entry.name, "", problem=entry.problem)


def _misnamed_model(tree: FileTree, name: str, entry: TreeEntry) -> FoundModel:
    """Return the problem of an entry without a valid model name; a folder without a graph is not a model anyway."""
    holds_graph = not entry.is_folder or _from_folder(tree, name, entry.name).problem != _NO_VERSION
    text = make_legible(name.encode("utf-8", "replace").decode())
    return FoundModel(text, entry.name, problem=_NO_NAME if holds_graph else _NO_VERSION)


def _from_file(name: str, entry: TreeEntry) -> FoundModel:
    if entry.problem is not None:
        return FoundModel(name, "", broken={ONLY_VERSION: entry.problem}, is_file=True)
    return FoundModel(name, "", {ONLY_VERSION: entry.name}, is_file=True)


def _from_folder(tree: FileTree, name: str, folder: str, is_renamed: bool = False) -> FoundModel:
    entries = tree.entries(folder)
    folders = [entry for entry in entries if entry.is_folder and is_version(entry.name)]
    model = FoundModel(name, folder)
    try:
        if any(entry.name == CONFIG_FILENAME for entry in entries):
            text = tree.read(join_path(folder, CONFIG_FILENAME), "the model configuration")
            model = replace(model, config=parse_text(text, "" if is_renamed else name))
        options, files = referenced_files(model.config)
    except InvalidInput as fault:
        problem = fault.reason
        return replace(model, problem=problem, broken={entry.name: problem for entry in folders})
    model = replace(model, files=files, policy=options.version_policy)
    return _with_versions(tree, model, entries, folders, options.filename)


def _with_versions(
    tree: FileTree, model: FoundModel, entries: Sequence[TreeEntry], folders: Sequence[TreeEntry], filename: str
) -> FoundModel:
    versions: dict[str, str] = {}
    broken = dict.fromkeys(model.policy.specific, _NO_SUCH_VERSION)
    for entry in folders:
        broken.pop(entry.name, None)
        problem = entry.problem or _refuse_lookalike(entry.name, folders)
        graph = problem or _find_graph(tree, join_path(model.folder, entry.name), filename)
        if isinstance(graph, FaultReason):
            broken[entry.name] = graph
        else:
            versions[entry.name] = graph
    misnamed = _misnamed_versions(tree, model.folder, entries, (_WARMUP_FOLDER, "" if folders else _HUB_FOLDER))
    if folders:
        notes = _find_stray(entries)
        return replace(model, versions=versions, broken={**broken, **misnamed}, notes=notes)
    return _without_versions(tree, replace(model, broken={**broken, **misnamed}), entries, filename)


def _without_versions(tree: FileTree, model: FoundModel, entries: Sequence[TreeEntry], filename: str) -> FoundModel:
    """Complete a model without version folders: its graph is in its folder, or in Hugging Face's folder ``onnx``."""
    hub = any(entry.name == _HUB_FOLDER and entry.is_folder for entry in entries)
    places = [model.folder, *([join_path(model.folder, _HUB_FOLDER)] if hub else [])]
    tried = [_find_graph(tree, path, filename) for path in places]
    broken = {version: why for version, why in model.broken.items() if version != ONLY_VERSION}
    for graph in tried:
        if not isinstance(graph, FaultReason):
            return replace(model, versions={ONLY_VERSION: graph}, broken=broken)
    reasons = [why for why in tried if isinstance(why, FaultReason) and why is not _MISSING]
    problem = reasons[0] if reasons else next(iter(model.broken.values()), _NO_VERSION)
    return replace(model, problem=problem)


def _find_graph(tree: FileTree, folder: str, filename: str) -> str | FaultReason:
    """Return the graph in a folder: the file of this name, the only graph, or the same in a folder of this name."""
    entries = {entry.name: entry for entry in tree.entries(folder)}
    stated = entries.get(filename)
    if stated is not None:
        if stated.is_folder:
            return _graph_of(tree.entries(join_path(folder, filename)), join_path(folder, filename), filename)
        return stated.problem or join_path(folder, filename)
    if filename != MODEL_FILENAME:
        return _MISSING
    return _graph_of(list(entries.values()), folder, filename)


def _graph_of(entries: Sequence[TreeEntry], folder: str, filename: str) -> str | FaultReason:
    graphs = {entry.name: entry for entry in entries if entry.name.endswith(_SUFFIX) and not entry.is_folder}
    candidates = [name for name in (MODEL_FILENAME, filename) if name in graphs] or list(graphs)
    if not candidates:
        return _MISSING
    if len(graphs) > 1 and candidates[0] not in (MODEL_FILENAME, filename):
        text = f"there are {len(graphs)} graphs, and none is {MODEL_FILENAME}; state default_model_filename"
        return FaultReason(text, f"{text}: {', '.join(map(make_legible, sorted(graphs)))}")
    return graphs[candidates[0]].problem or join_path(folder, candidates[0])


def _refuse_lookalike(version: str, folders: Sequence[TreeEntry]) -> FaultReason | None:
    """Return why a version folder is not served beside another with a similar name; the plainest one is served."""
    others = [entry.name for entry in folders if looks_alike(entry.name, version)]
    plainest = min(others, key=lambda name: (len(name), name))
    if version == plainest:
        return None
    return FaultReason(f"version '{version}' looks like version '{plainest}', which exists too; rename or remove one")


def _misnamed_versions(
    tree: FileTree, folder: str, entries: Sequence[TreeEntry], versions: Sequence[str]
) -> dict[str, FaultReason]:
    """Return the folders that hold a graph and have no valid version name, except ``known`` ones."""
    others = [
        entry for entry in entries if entry.is_folder and not is_version(entry.name) and entry.name not in versions
    ]
    rule = "a version begins with a digit, as in 1 or 1.4.0, then letters, digits and ._+-; rename the folder"
    return {
        make_legible(entry.name): FaultReason(rule)
        for entry in others
        if entry.problem is None and _holds_graph(tree, join_path(folder, entry.name))
    }


def _holds_graph(tree: FileTree, folder: str) -> bool:
    return any(entry.name.endswith(_SUFFIX) for entry in tree.entries(folder))


def _find_stray(entries: Sequence[TreeEntry]) -> tuple[str, ...]:
    graphs = [make_legible(entry.name) for entry in entries if entry.name.endswith(_SUFFIX) and not entry.is_folder]
    return tuple(f"{name} lies beside version folders and is not served; move it into one" for name in graphs)


def files_of(tree: FileTree, model: FoundModel, graph: str, weights: Sequence[str]) -> list[tuple[str, str]]:
    """Return the files that a version may consist of, each with its tag: the graph, the files beside it, and referenced
    files."""
    folder, _, name = graph.rpartition("/")
    beside = [entry for entry in tree.entries(folder) if not entry.is_folder]
    if model.is_file:
        beside = [entry for entry in beside if entry.name.startswith(name) or entry.name in weights]
    tags = {join_path(folder, entry.name): entry.tag for entry in beside}
    bundle = join_path(model.folder, BUNDLE_FILE)
    others = (*(join_path(folder, name) for name in weights), *(join_path(model.folder, name) for name in model.files))
    for path in (*others, *([bundle] if _make_tag(tree, bundle) else [])):
        tags[path] = _make_tag(tree, path)
    return sorted(tags.items())


def _make_tag(tree: FileTree, path: str) -> str:
    folder, _, name = path.rpartition("/")
    return next((entry.tag for entry in tree.entries(folder) if entry.name == name and not entry.is_folder), "")
