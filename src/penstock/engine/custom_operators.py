"""Finds the library of onnxruntime-extensions, whose operators a model may ask for; no other library is ever loaded."""

from penstock.engine.faults import LoadFailed
from penstock.engine.installed_files import find_file

PACKAGE = "onnxruntime-extensions"


def shared_library() -> str:
    """Return the path of the library in the installed package.

    Raises:
        LoadFailed: the package is not installed.
    """
    library = find_file(PACKAGE, _is_library)
    if library is None:
        raise LoadFailed(
            f"its configuration asks for {PACKAGE}, which is not installed; pip install 'penstock[extensions]'"
        )
    return library


def _is_library(name: str) -> bool:
    return name.startswith("_extensions_pydll.") and name.endswith((".so", ".pyd"))
