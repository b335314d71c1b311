"""Finds the library of onnxruntime-extensions, whose operators a model may ask for; no other library is ever loaded."""

from penstock.engine.faults import LoadFailed

PACKAGE = "onnxruntime-extensions"
_LIBRARY = "_extensions_pydll."


def shared_library() -> str:
    """Return the path of the library in the installed package, from the package's own list of files.

    The package is not imported: that takes half a second, in which a worker could not answer requests.

    Raises:
        LoadFailed: the package is not installed.
    """
    from importlib import metadata  # noqa: PLC0415 - takes a start a tenth of its time, and few models need it

    try:
        files = metadata.files(PACKAGE) or ()
    except metadata.PackageNotFoundError:
        files = ()
    libraries = [file for file in files if file.name.startswith(_LIBRARY) and file.suffix in (".so", ".pyd")]
    if not libraries:
        raise LoadFailed(
            f"its configuration asks for {PACKAGE}, which is not installed; pip install 'penstock[extensions]'"
        )
    return str(libraries[0].locate())
