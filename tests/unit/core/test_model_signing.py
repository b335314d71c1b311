"""Rules of signatures: who counts for which model, what a manifest covers, and when a version is refused."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.model_signing import (
    SignatureMode,
    SignaturePolicy,
    SignatureVerdict,
    SignedFiles,
    SignedManifest,
    TrustedSigner,
    check_binding,
    check_coverage,
    check_served,
    parse_signature_policy,
    signature_refusal,
)

ANN = TrustedSigner("ann", "PEM", models=("fraud-*",))
BOB = TrustedSigner("bob", authority="PEM", identity="bob@example.org")
REQUIRED = SignaturePolicy(SignatureMode.REQUIRE, (ANN, BOB))
FILES = {"model.onnx": "aa", "weights.bin": "bb"}


def test_a_policy_survives_the_way_to_a_worker() -> None:
    policy = SignaturePolicy(SignatureMode.WARN, (ANN, BOB), 2, bound=True)
    assert parse_signature_policy(asdict(policy)) == policy


def test_a_signer_counts_for_the_models_of_its_patterns() -> None:
    assert REQUIRED.signers_for("fraud-1") == (ANN, BOB)
    assert REQUIRED.signers_for("digits") == (BOB,)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (FILES, ""),
        ({**FILES, "more": "cc"}, "1 file is not signed"),
        ({**FILES, "more": "cc", "most": "cc"}, "2 files are not signed"),
        ({"model.onnx": "aa"}, "1 file is missing"),
        ({**FILES, "weights.bin": "cc"}, "1 file is changed since the signature"),
        ({}, "2 files are missing"),
    ],
)
def test_a_manifest_covers_exactly_the_files(files: dict[str, str], reason: str) -> None:
    assert check_coverage(SignedManifest(FILES), files) == reason


@pytest.mark.parametrize("name", [".", "model.onnx", "digits.onnx"])
def test_a_single_graph_has_any_name(name: str) -> None:
    assert check_coverage(SignedManifest({name: "aa"}), {"model.onnx": "aa"}) == ""
    assert check_coverage(SignedManifest({name: "aa"}), {"model.onnx": "ab"}) == "the graph is not the signed one"


def test_a_single_file_that_is_no_graph_keeps_its_name() -> None:
    assert check_coverage(SignedManifest({"config.pbtxt": "aa"}), {"model.onnx": "aa"}) == "1 file is not signed"
    assert check_coverage(SignedManifest({".": "aa"}), {"model.onnx": "aa", "more": "bb"}) == "2 files are not signed"


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("12"), min_size=2), st.data())
def test_any_difference_is_found(files: dict[str, str], data: st.DataObject) -> None:
    other = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("12"), min_size=2))
    assert (check_coverage(SignedManifest(files), other) == "") == (files == other)


@pytest.mark.parametrize(
    ("model", "version", "required", "reason"),
    [
        ("", "", False, ""),
        ("m", "", False, ""),
        ("m", "1", True, ""),
        ("m", "", True, "it does not name the model and the version that it is for"),
        ("other", "", False, "it was made for model 'other'"),
        ("m", "2", False, "it was made for version '2'"),
    ],
)
def test_a_signature_may_be_for_one_version(model: str, version: str, required: bool, reason: str) -> None:
    assert check_binding(SignedManifest(FILES, model, version), "m", "1", required) == reason


@pytest.mark.parametrize(
    ("policy", "verdict", "reason"),
    [
        (SignaturePolicy(), SignatureVerdict(), ""),
        (REQUIRED, SignatureVerdict(("bob",)), ""),
        (REQUIRED, SignatureVerdict(), "it has no signature of a trusted signer"),
        (REQUIRED, SignatureVerdict((), ("why",)), "it has no signature of a trusted signer: why"),
        (
            SignaturePolicy(SignatureMode.REQUIRE, (ANN,)),
            SignatureVerdict(),
            "no signer is trusted for model 'digits'; add one to admission.signatures.trusted",
        ),
        (
            SignaturePolicy(SignatureMode.REQUIRE, (ANN, BOB), 2),
            SignatureVerdict(("bob",)),
            "2 signers must have signed it, and 1 have: bob",
        ),
    ],
)
def test_a_version_needs_enough_signers(policy: SignaturePolicy, verdict: SignatureVerdict, reason: str) -> None:
    assert signature_refusal(policy, "digits", verdict) == reason


def test_a_part_of_a_content_lacks_no_configuration() -> None:
    manifest = SignedManifest({"m/config.pbtxt": "aa", "m/1/model.onnx": "bb"})
    whole, bare = dict(manifest.files), {"m/1/model.onnx": "bb"}
    assert check_coverage(manifest, whole) == check_coverage(manifest, {"m/config.pbtxt": "aa"}, partial=True) == ""
    assert check_coverage(manifest, bare, partial=True) == "1 file is missing"


def test_only_signed_files_are_loaded() -> None:
    signed = SignedFiles((("model.onnx", "aa"), ("w", "bb")), rewritten="model.onnx")
    foreign = "a file to be loaded is not a signed one"
    assert check_served(signed, [("model.onnx", "cc"), ("w", "bb"), ("model.sig", "dd")], "model.onnx") == ""
    assert check_served(signed, [("aa", "aa"), ("w", "cc")], "aa") == foreign
    assert check_served(SignedFiles(signed.files), [("model.onnx", "cc")], "model.onnx") == foreign
    assert check_served(signed, [("w", "bb"), ("model.sig", "dd")], "model.sig") == foreign
    copied = SignedFiles(signed.files, partial=True)
    assert check_served(copied, [("version/a", "aa"), ("signature/0.sig", "dd")], "version/a") == ""
    assert check_served(copied, [("version/a", "aa"), ("model.sig", "dd")], "version/a") == foreign
