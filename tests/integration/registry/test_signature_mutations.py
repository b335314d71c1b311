"""Ten thousand random changes of bundles and of signed files: none is unseen."""

import hashlib
import random

from penstock.core.errors import InvalidInput
from penstock.core.model_signing import SignatureMode, SignaturePolicy, TrustedSigner
from penstock.registry.signing import keys
from penstock.registry.signing.bundle import Bundle, encode_bundle, parse_bundle, statement_of
from penstock.registry.signing.verifier import verify_bundles
from tests.unit.registry.signing.keys_of_tests import private_key

MUTATIONS = 10_000
CONTENTS = {"model.onnx": b"graph" * 20, "weights.bin": bytes(range(256)), "config.pbtxt": b"max_batch_size: 8\n"}
KEY = private_key("P-256", 21)
POLICY = SignaturePolicy(SignatureMode.REQUIRE, (TrustedSigner("ci", keys.public_pem(KEY)),))


def digests(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def signed() -> str:
    payload = statement_of(digests(CONTENTS), "m", (), "m", "1")
    hint = keys.compute_fingerprint(KEY)
    return encode_bundle(Bundle(payload, keys.sign(KEY, Bundle(payload, b"", hint).signed_bytes), hint))


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Return data with one to three bytes changed, added, removed or moved; always other data."""
    changed = bytearray(data)
    while bytes(changed) == data:
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(changed))
            match dice.randrange(4):
                case 0:
                    changed[at] ^= 1 << dice.randrange(8)
                case 1:
                    changed.insert(at, dice.randrange(256))
                case 2:
                    del changed[at]
                case _:
                    other = dice.randrange(len(changed))
                    changed[at], changed[other] = changed[other], changed[at]
    return bytes(changed)


def is_same_bundle(text: bytes, bundle: Bundle) -> bool:
    """Whether a text still is the same bundle: only the space between its parts may differ."""
    try:
        return parse_bundle(text) == bundle
    except InvalidInput:
        return False


def test_no_change_of_a_bundle_is_unseen() -> None:
    dice, text = random.Random(20261130), signed()
    bundle, files, seen = parse_bundle(text), digests(CONTENTS), 0
    assert verify_bundles(POLICY, "m", "1", files, [text]).signers == ("ci",)
    for _ in range(MUTATIONS):
        changed = mutated(text.encode(), dice)
        verdict = verify_bundles(POLICY, "m", "1", files, [changed])  # type: ignore[list-item]
        assert verdict.signers == () or is_same_bundle(changed, bundle)
        seen += verdict.signers == ()
    assert seen > MUTATIONS * 0.98  # most bytes of a bundle are not space


def test_no_change_of_a_signed_file_is_unseen() -> None:
    dice, text = random.Random(20261201), signed()
    for _ in range(MUTATIONS):
        contents, name = dict(CONTENTS), dice.choice(sorted(CONTENTS))
        match dice.randrange(8):
            case 0:
                del contents[name]
            case 1:
                contents[f"more{dice.randrange(9)}"] = dice.randbytes(4)
            case 2:
                other = dice.choice(sorted(set(CONTENTS) - {name}))
                contents[name], contents[other] = contents[other], contents[name]
            case _:
                contents[name] = mutated(contents[name], dice)
        assert verify_bundles(POLICY, "m", "1", digests(contents), [text]).signers == ()
