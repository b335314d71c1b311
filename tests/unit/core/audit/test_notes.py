"""Checkpoints and proofs as texts, in the forms of C2SP."""

import base64
from dataclasses import replace

import pytest

from penstock.core.audit.merkle import EMPTY_ROOT, hash_leaf
from penstock.core.audit.notes import (
    Checkpoint,
    InclusionProof,
    NoteSignature,
    PublicKey,
    SignedCheckpoint,
    check_proof,
    is_signed,
    read_checkpoint,
    read_checkpoints,
    read_proof,
    read_public_key,
)
from penstock.core.errors import DataLoss, InvalidInput

KEY = PublicKey("penstock/id", b"k" * 32)
CHECKPOINT = Checkpoint("penstock/id", 1, hash_leaf(b"{}"))


def is_valid(public: bytes, signature: bytes, message: bytes) -> bool:
    return signature == public[:4] + message[-4:]


def signed(checkpoint: Checkpoint = CHECKPOINT, key: PublicKey = KEY) -> SignedCheckpoint:
    signature = key.public[:4] + checkpoint.text.encode()[-4:]
    return SignedCheckpoint(checkpoint, (NoteSignature(key.name, key.key_id, signature),), checkpoint.text)


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    note = signed().note
    lines = note.split("\n")
    assert lines[:4] == ["penstock/id", "1", base64.b64encode(CHECKPOINT.root).decode(), ""]
    assert lines[4].startswith("— penstock/id ")
    assert note.endswith("\n")
    assert read_checkpoint(note) == signed()


def test_an_example_of_the_specification_is_read() -> None:
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
        "zyWE+xeMcTOAYQ8=\n"
    )
    read = read_checkpoint(note)
    assert (read.checkpoint.origin, read.checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert (read.note, read.key_ids) == (note, "example.com/behind-the-sofa+033de0ae")


def test_the_key_of_an_example_of_the_specification_has_its_id() -> None:
    # The key of the Go checksum database.
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert read_public_key(text).text == text


GOOD = signed().note
NO_CHECKPOINTS = [
    "",
    "x",
    GOOD.replace("\n1\n", "\n01\n"),
    GOOD.replace("\n1\n", "\n-1\n"),
    GOOD.replace("\n1\n", "\n\n"),
    GOOD.replace("—", "-"),
    GOOD.partition("—")[0],
    GOOD.replace("penstock/id\n1\n", "penstock/id\n"),
    GOOD + "more\n",
    GOOD + GOOD.rpartition("\n\n")[2] * 16,
    f"penstock/id\n1\n{base64.b64encode(b'short').decode()}\n\n{GOOD.rpartition(chr(10) * 2)[2]}",
    "x" * (1 << 17) + GOOD,
]


@pytest.mark.parametrize("text", NO_CHECKPOINTS)
def test_other_texts_are_not_checkpoints(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_checkpoint(text)


def test_a_file_has_checkpoints_one_after_another() -> None:
    second = signed(replace(CHECKPOINT, size=2))
    assert read_checkpoints(f"{signed().note}\n{second.note}\n") == [signed(), second]
    assert read_checkpoints(signed().note) == [signed()]
    assert read_checkpoints("") == read_checkpoints("\n\n") == []
    for text in (f"{GOOD}\nmore", f"more\n{GOOD}", GOOD[:-20]):
        with pytest.raises(InvalidInput):
            read_checkpoints(text)


def test_signatures_of_other_keys_are_ignored() -> None:
    other = PublicKey("penstock/id", b"o" * 32)
    both = replace(signed(), signatures=(*signed(key=other).signatures, *signed().signatures))
    assert is_signed(both, [KEY], is_valid)
    assert is_signed(both, [other, KEY], is_valid)
    assert not is_signed(signed(), [other], is_valid)
    assert not is_signed(signed(), [PublicKey("other", KEY.public)], is_valid)
    assert not is_signed(signed(), [], is_valid)


def test_a_wrong_signature_of_a_key_that_is_trusted_is_found() -> None:
    changed = replace(signed(), signed_text=replace(CHECKPOINT, size=1, root=EMPTY_ROOT).text)
    with pytest.raises(DataLoss, match="is wrong"):
        is_signed(changed, [KEY], is_valid)


def test_a_public_key_is_read_as_it_was_written() -> None:
    assert read_public_key(f" {KEY.text}\n") == KEY
    name, key_id, encoded = KEY.text.split("+", 2)
    for text in ("", "x", f"{name}+{key_id}+", f"{name}+00000000+{encoded}", f"+{key_id}+{encoded}", f"{KEY.text}A"):
        with pytest.raises(InvalidInput, match="public key"):
            read_public_key(text)


def test_a_proof_is_read_as_it_was_written_and_needs_the_key_alone() -> None:
    tree = Checkpoint("penstock/id", 1, hash_leaf(b'{"seq":1}'))
    proof = InclusionProof(b'{"seq":1}', 0, (), signed(tree))
    assert read_proof(proof.text) == proof
    check_proof(read_proof(proof.text), [KEY], is_valid)
    for wrong in (replace(proof, entry=b'{"seq":2}'), replace(proof, index=1), replace(proof, hashes=(b"x" * 32,))):
        with pytest.raises(DataLoss, match="not in the log"):
            check_proof(read_proof(wrong.text), [KEY], is_valid)
    with pytest.raises(DataLoss, match="no given key"):
        check_proof(proof, [PublicKey("other", b"o" * 32)], is_valid)


NO_PROOFS = ["", "c2sp.org/tlog-proof@v1\nextra e30=\nindex x", "c2sp.org/tlog-proof@v1\nextra e30=\nindex 0\nabc\n\n"]


@pytest.mark.parametrize("text", [*NO_PROOFS, f"c2sp.org/tlog-proof@v2\nextra e30=\nindex 0\n\n{GOOD}"])
def test_other_texts_are_not_proofs(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_proof(text)
