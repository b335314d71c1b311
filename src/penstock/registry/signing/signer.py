"""Signs a graph or a folder of a model: hashes its files, and makes a bundle."""

import os
from collections.abc import Iterator
from pathlib import Path

from penstock.core.errors import InvalidInput
from penstock.core.model_signing import BUNDLE_FILE, SINGLE_FILE
from penstock.registry.blobs.folder import PREFIX, hash_file
from penstock.registry.signing import keys
from penstock.registry.signing.bundle import IGNORED, MOST_FILES, Bundle, encode_bundle, ignored_names, statement_of
from penstock.registry.signing.certificates import own_key


def bundle_path(path: Path) -> Path:
    """Return where the bundle of a graph or a folder belongs: in the folder, or beside the graph."""
    return path / BUNDLE_FILE if path.is_dir() else path.with_name(f"{path.name}.sig")


def sign_path(
    path: Path, key: keys.Key, bundle: Path, model: str = "", version: str = "", chain: tuple[bytes, ...] = ()
) -> str:
    """Return the bundle (JSON) of a graph or of all files of a folder except the ``bundle`` itself.

    ``model`` and ``version`` bind the signature to them ("" = to none); ``chain`` has the certificate of the key and
    those of its issuers (DER), instead of the hint of the key.

    Raises:
        InvalidInput: there is nothing to sign, a file is not a plain one or cannot be read, or the certificate is of
            another key.
    """
    if chain and keys.public_pem(own_key(chain[0])) != keys.public_pem(key):
        raise InvalidInput("the first certificate is not that of the key")
    files = dict(_hash_files(path, bundle))
    if not files:
        raise InvalidInput("there is no file to sign")
    ignored = ignored_names(os.path.relpath(bundle, path)) if path.is_dir() else IGNORED
    payload = statement_of(files, path.resolve().name, ignored, model, version)
    unsigned = Bundle(payload, b"", "" if chain else keys.compute_fingerprint(key), chain)
    signature = keys.sign(key, unsigned.signed_bytes)
    return encode_bundle(Bundle(payload, signature, unsigned.hint, chain))


def _hash_files(path: Path, bundle: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the SHA-256 (hex) of each file."""
    if path.is_file():
        yield SINGLE_FILE, hash_file(path).removeprefix(PREFIX)
        return
    for number, file in enumerate(_list_files(path, bundle)):
        if number >= MOST_FILES:
            raise InvalidInput(f"the folder holds more than {MOST_FILES} files")
        yield file.relative_to(path).as_posix(), hash_file(file).removeprefix(PREFIX)


def _list_files(folder: Path, bundle: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if name.parts[0] in IGNORED or file.resolve() == bundle.resolve():
            continue
        if file.is_symlink():
            raise InvalidInput(f"'{name}' is a symbolic link; sign a folder of plain files")
        if file.is_file():
            yield file
        elif not file.is_dir():
            raise InvalidInput(f"'{name}' is not a plain file")
