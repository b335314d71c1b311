"""The contexts of ports: what they are made of, what is refused, and that a change is whole or none."""

import ssl
from pathlib import Path

import pytest

from penstock.api.tls import TlsContexts, read_client_certificate
from penstock.core.certificates import TlsMaterial
from penstock.core.errors import InvalidInput
from tests.certificates import Pair, issue, make_certificate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


def test_only_modern_suites_and_versions(pair: Pair) -> None:
    for context in (pair.contexts().http(), pair.contexts().grpc()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        suites = {suite["name"] for suite in context.get_ciphers()}
        assert suites and all(name.startswith(("TLS_", "ECDHE-")) for name in suites)
        assert all(name.endswith(("-SHA256", "-SHA384", "_SHA256", "_SHA384", "-POLY1305")) for name in suites)
        assert not [name for name in suites if "GCM" not in name and "CHACHA20" not in name]
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.verify_mode is ssl.CERT_NONE


def test_nothing_is_served_before_a_certificate_is_loaded() -> None:
    contexts = TlsContexts()
    for use in (contexts.http, contexts.grpc, lambda: contexts.expires_at):
        with pytest.raises(RuntimeError):
            use()


def test_clients_are_verified_with_an_authority(pair: Pair, authority: Pair) -> None:
    assert pair.contexts(authority).http().verify_mode is ssl.CERT_OPTIONAL
    assert pair.contexts(authority, required=True).grpc().verify_mode is ssl.CERT_REQUIRED
    assert pair.contexts().authority_expires_at is None
    assert pair.contexts(authority).authority_expires_at == pytest.approx(pair.contexts().expires_at, abs=3600)


def refusals(pair: Pair, authority: Pair) -> dict[str, TlsMaterial]:
    chain, key, other = pair.certificate.read_text(), pair.key.read_text(), authority.key.read_text()
    return {
        "key values mismatch": TlsMaterial(chain, other),
        "expected certificates in PEM form": TlsMaterial("", key),
        "it is not in pem form": TlsMaterial(chain, "x"),
        "client_ca cannot be used: expected certificates": TlsMaterial(chain, key, "no authority"),
        "client_ca cannot be used: the certificate is cut off": TlsMaterial(
            chain, key, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
        ),
    }


def test_what_cannot_be_used_changes_nothing(pair: Pair, authority: Pair) -> None:
    contexts = pair.contexts()
    before = contexts.http()
    for sentence, material in refusals(pair, authority).items():
        with pytest.raises(InvalidInput, match=sentence):
            contexts.use(material)
        assert contexts.http() is before


@pytest.mark.processes
def test_a_key_with_a_password_is_refused_without_a_question(pair: Pair, folder: Path) -> None:
    secret = make_certificate(folder, "secret", kind=["-newkey", "rsa:2048", "-passout", "pass:penstock"])
    with pytest.raises(InvalidInput, match="the key has a password"):
        secret.contexts()


def test_an_expired_certificate_does_not_replace_a_good_one(pair: Pair, authority: Pair, folder: Path) -> None:
    expired = issue(authority, folder, "expired", days=-1).material()
    contexts = TlsContexts()
    contexts.use(expired)  # at the start there is nothing better
    contexts.use(expired)
    contexts.use(pair.material())
    with pytest.raises(InvalidInput, match="it has expired"):
        contexts.use(expired)


def test_a_change_is_another_context(pair: Pair) -> None:
    contexts = pair.contexts()
    before = contexts.http(), contexts.grpc()
    contexts.use(pair.material())
    assert contexts.http() not in before and contexts.grpc() not in before


def test_the_certificate_of_a_client() -> None:
    assert read_client_certificate(None) is read_client_certificate({}) is None
    read = read_client_certificate({"notAfter": "Jan  1 00:00:00 1999 GMT", "subjectAltName": (("DNS", "a"),)})
    assert read is not None and read.names == ("a",) and read.left_ns() < 0
