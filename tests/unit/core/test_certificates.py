"""Names in certificates, and when they expire."""

from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.certificates import (
    MAX_NAME_CHARACTERS,
    MAX_NAMES,
    TlsMaterial,
    earliest_expiry,
    read_expiry,
    read_names,
)

UTC_TIME, GENERALIZED_TIME = 0x17, 0x18


def element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def certificate(not_after: bytes, tag: int = UTC_TIME, version: bytes = b"\xa0\x03\x02\x01\x02") -> bytes:
    """What a certificate has up to its validity, and something behind it."""
    issuer = element(0x30, b"\x0c\x01x" * 100)
    validity = element(0x30, element(UTC_TIME, b"200101000000Z"), element(tag, not_after))
    body = element(0x30, version, element(2, b"\x01"), element(0x30), issuer, validity, element(0x30))
    return element(0x30, body, element(0x30), element(3, b"\x00"))


def pem(*certificates: bytes) -> str:
    blocks = [b64encode(item).decode() for item in certificates]
    return "".join(f"-----BEGIN CERTIFICATE-----\n{block}\n-----END CERTIFICATE-----\n" for block in blocks)


def seconds(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("der", "expiry"),
    [
        (certificate(b"301231235959Z"), seconds(2030, 12, 31, 23, 59, 59)),
        (certificate(b"490101000000Z"), seconds(2049, 1, 1)),
        (certificate(b"500101000000Z"), seconds(1950, 1, 1)),
        (certificate(b"20500101000000Z", GENERALIZED_TIME), seconds(2050, 1, 1)),
        (certificate(b"99991231235959Z", GENERALIZED_TIME), seconds(9999, 12, 31, 23, 59, 59)),
        (certificate(b"301231235959Z", version=b""), seconds(2030, 12, 31, 23, 59, 59)),
    ],
)
def test_when_a_certificate_expires(der: bytes, expiry: float) -> None:
    assert read_expiry(der) == expiry


def test_the_first_of_several_expires() -> None:
    assert earliest_expiry(f"comment\n{pem(certificate(b'400101000000Z'), certificate(b'300101000000Z'))}") == seconds(
        2030, 1, 1
    )
    assert earliest_expiry("nothing") is None


@pytest.mark.parametrize(
    "der", [b"", b"\x30", certificate(b"301231235959Z")[:300], certificate(b"3012312359Z"), certificate(b"x", 0x0C)]
)
def test_malformed_certificates_are_refused(der: bytes) -> None:
    with pytest.raises(ValueError):
        read_expiry(der)


@settings(max_examples=50)
@given(st.integers(0, 500), st.binary(max_size=8))
def test_whatever_a_certificate_holds_raises_nothing_else(at: int, more: bytes) -> None:
    der = certificate(b"301231235959Z")
    with suppress(ValueError):
        read_expiry(der[:at] + more + der[at + len(more) :])


def alternatives(*names: tuple[str, str]) -> dict[str, Any]:
    return {"subject": ((("commonName", "x"),),), "subjectAltName": names}


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({}, ()),
        (alternatives(), ()),
        (
            alternatives(
                ("email", "a@b"), ("DNS", "Bot.Example"), ("IP Address", "1.2.3.4"), ("URI", "spiffe://x/Bot")
            ),
            ("spiffe://x/Bot", "bot.example", "a@b"),
        ),
        (alternatives(("DNS", "a"), ("DNS", "a"), ("DNS", "A")), ("a",)),
        (alternatives(("DNS", "a b"), ("URI", "x\n"), ("email", ""), ("DNS", "\u0430"), ("DNS", "\x00")), ()),
        (alternatives(("URI", "x" * (MAX_NAME_CHARACTERS + 1)), ("URI", "x" * MAX_NAME_CHARACTERS)), ("x" * 2048,)),
    ],
)
def test_certificates_are_matched_by_their_names(certificate: dict[str, Any], names: tuple[str, ...]) -> None:
    assert read_names(certificate) == names


def test_names_are_bounded() -> None:
    many = [("DNS", str(number)) for number in range(2 * MAX_NAMES)]
    assert len(read_names(alternatives(*many))) == MAX_NAMES


def test_the_key_is_not_printed() -> None:
    assert "secret" not in repr(TlsMaterial("chain", "secret"))
