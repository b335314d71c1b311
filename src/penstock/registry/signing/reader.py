"""Reads whose signatures a version has, by the policy of the configuration; shared by all stores of a database."""

from collections.abc import Mapping, Sequence

from penstock.core.model_signing import SignaturePolicy, SignatureVerdict, signature_refusal


class SignatureReader:
    """Verifies bundles by a policy, which is set when the registry is opened. Any thread may use it."""

    def __init__(self) -> None:
        self.policy = SignaturePolicy()

    def verify(
        self, model: str, version: str, files: Mapping[str, str], bundles: Sequence[str]
    ) -> tuple[SignatureVerdict, str]:
        """Return who has signed the files (name to SHA-256 in hex) of a version, and why its signatures do not allow to
        serve it ("" = they do, or signatures are not checked)."""
        if not self.policy.is_on:
            return SignatureVerdict(), ""
        from penstock.registry.signing.verifier import verify_bundles  # noqa: PLC0415 - few gateways have signatures

        verdict = verify_bundles(self.policy, model, version, files, bundles)
        return verdict, signature_refusal(self.policy, model, verdict)
