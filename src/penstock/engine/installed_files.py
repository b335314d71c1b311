"""Finds files of installed packages by the packages' own lists.

Nothing is imported: some packages take half a second, in which a worker could not answer requests.
"""

from collections.abc import Callable

IsWanted = Callable[[str], bool]
"""Says of a file's name, without folders, whether it is the wanted one."""


def find_file(package: str, is_wanted: IsWanted) -> str | None:
    """Return the path of the first wanted file of a package; None if there is none, or the package is not installed."""
    from importlib import metadata  # noqa: PLC0415 - takes a start a tenth of its time, and few models need it

    try:
        files = metadata.files(package) or ()
    except metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if is_wanted(file.name)), None)
