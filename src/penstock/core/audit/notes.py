"""Checkpoints as signed notes, and proofs of inclusion as texts.

The forms are those of C2SP: signed-note (Ed25519, type 1), tlog-checkpoint and tlog-proof@v1.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from penstock.core.audit.merkle import hash_leaf, is_included
from penstock.core.errors import DataLoss, InvalidInput

ED25519: Final = b"\x01"
MOST_SIGNATURES: Final = 16
MOST_CHARACTERS: Final = 1 << 16
PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"

_SIGNATURE: Final = re.compile(r"— (\S+) ([0-9A-Za-z+/]+={0,2})")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)

IsValid = Callable[[bytes, bytes, bytes], bool]
"""Whether a public key (32 bytes) has made a signature of a message: ``(public_key, signature, message)``."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The size of a log and the root of its tree."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{_encode_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature of a note: ``key_id`` are the first 4 bytes of the signature line."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line in the note."""
        return f"— {self.name} {_encode_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signatures."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...]
    signed_text: str

    @property
    def note(self) -> str:
        """The signed note."""
        return f"{self.signed_text}\n{''.join(signature.line for signature in self.signatures)}"

    @property
    def key_ids(self) -> str:
        """The keys that signed it, for messages."""
        return ", ".join(f"{item.name}+{item.key_id.hex()}" for item in self.signatures)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of Ed25519 (32 bytes) with its name."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that stand before signatures of this key."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    @property
    def text(self) -> str:
        """The key as a text: NAME+ID+BASE64."""
        return f"{self.name}+{self.key_id.hex()}+{_encode_base64(ED25519 + self.public)}"


def read_public_key(text: str) -> PublicKey:
    """Return the key of a text NAME+ID+BASE64; raises ``InvalidInput``."""
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    key = PublicKey(name, decoded[1:])
    if len(decoded) != 33 or decoded[:1] != ED25519 or not name or key.key_id.hex() != key_id:
        raise InvalidInput("the public key must have the form NAME+ID+BASE64, as in: penstock audit key")
    return key


def read_checkpoint(note: str) -> SignedCheckpoint:
    """Return the checkpoint of a signed note; its signatures are not verified.

    Raises:
        InvalidInput: the text is not a checkpoint.
    """
    text, blank, signed = note.rpartition("\n\n") if len(note) <= MOST_CHARACTERS else ("", "", "")
    lines, signatures = text.split("\n"), [_parse_signature(line) for line in signed.splitlines()]
    found = [item for item in signatures if item is not None]
    if blank and len(lines) >= 3 and all(lines) and found and len(found) == len(signatures) <= MOST_SIGNATURES:
        root = _decode_base64(lines[2])
        if _NUMBER.fullmatch(lines[1]) and len(root) == 32:
            return SignedCheckpoint(Checkpoint(lines[0], int(lines[1]), root), tuple(found), f"{text}\n")
    raise InvalidInput("the text is not a checkpoint: expected origin, size, root, an empty line and signatures")


def read_checkpoints(text: str) -> list[SignedCheckpoint]:
    """Return the checkpoints of a file, which has them one after another, each with an empty line after it.

    Raises:
        InvalidInput: one of them is not a checkpoint.
    """
    parts = text.rstrip("\n").split("\n\n") if text.strip() else []
    pairs = zip(parts[::2], [*parts[1::2], *[""] * (len(parts) % 2)], strict=True)
    return [read_checkpoint(f"{body.lstrip()}\n\n{signatures}\n") for body, signatures in pairs]


def _parse_signature(line: str) -> NoteSignature | None:
    matched = _SIGNATURE.fullmatch(line)
    decoded = b"" if matched is None else _decode_base64(matched[2])
    if matched is None or len(decoded) < 5:
        return None
    return NoteSignature(matched[1], decoded[:4], decoded[4:])


def is_signed(signed: SignedCheckpoint, keys: Iterable[PublicKey], is_valid: IsValid) -> bool:
    """Whether one of these keys has signed a checkpoint; signatures of other keys are ignored.

    Raises:
        DataLoss: a signature of one of these keys is wrong.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found = False
    for item in signed.signatures:
        key = known.get((item.name, item.key_id))
        if key is not None:
            if not is_valid(key.public, item.signature, signed.signed_text.encode()):
                raise DataLoss(f"the signature of the checkpoint with {signed.checkpoint.size} entries is wrong")
            found = True
    return found


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """The proof that an entry (in canonical form) is in a log, as a text that needs nothing but the public key."""

    entry: bytes
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: SignedCheckpoint

    @property
    def is_consistent(self) -> bool:
        """Whether the entry is in the tree that the checkpoint states; its signature is not verified."""
        signed = self.checkpoint.checkpoint
        return is_included(hash_leaf(self.entry), self.index, signed.size, self.hashes, signed.root)

    @property
    def text(self) -> str:
        """The proof as a text."""
        lines = [
            PROOF_HEADER,
            f"extra {_encode_base64(self.entry)}",
            f"index {self.index}",
            *map(_encode_base64, self.hashes),
            "",
        ]
        return "\n".join(lines) + "\n" + self.checkpoint.note


def read_proof(text: str) -> InclusionProof:
    """Return the proof of a text; nothing is verified.

    Raises:
        InvalidInput: it is not such a proof.
    """
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    if len(lines) >= 3 and lines[0] == PROOF_HEADER and lines[1][:6] == "extra " and lines[2][:6] == "index ":
        hashes = tuple(map(_decode_base64, lines[3:]))
        if _NUMBER.fullmatch(lines[2][6:]) and all(len(item) == 32 for item in hashes):
            return InclusionProof(_decode_base64(lines[1][6:]), int(lines[2][6:]), hashes, read_checkpoint(note))
    raise InvalidInput("the text is not a proof of inclusion with its entry (c2sp.org/tlog-proof@v1)")


def check_proof(proof: InclusionProof, keys: Iterable[PublicKey], is_valid: IsValid) -> None:
    """Check that a signed checkpoint covers the entry of a proof.

    Raises:
        DataLoss: no key has signed the checkpoint, or the entry is not in its tree.
    """
    if not is_signed(proof.checkpoint, keys, is_valid):
        raise DataLoss(f"no given key has signed the checkpoint of the proof, but {proof.checkpoint.key_ids} has")
    if not proof.is_consistent:
        raise DataLoss("the entry of the proof is not in the log of its checkpoint")


def _encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
