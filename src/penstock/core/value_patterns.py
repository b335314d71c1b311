"""Patterns of values that identify people or accounts, and the masking of what matches them in texts.

Each takes time in proportion to the text: quantifiers are possessive, and a match begins only where a run begins.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

MASKED: Final = "***"
"""What stands in the place of a masked text."""

_EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]++@[\w-]++(?:\.[\w-]++)*+")
_PHONE: Final = re.compile(r"(?<![\w+])(?:\+|00)[1-9][\d ()./-]*+")
_CARD: Final = re.compile(r"(?<![\w-])\d(?:[ -]?\d)*+")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}[A-Z0-9 ]*+")
_IP: Final = re.compile(r"(?<![\w.])\d{1,3}+(?:\.\d{1,3}+){3}(?![\w.]*\d)")

_PHONE_DIGITS: Final = 7
_CARD_DIGITS: Final = range(13, 20)
_IBAN_LENGTHS: Final = {
    text[:2]: int(text[2:])
    for text in [
        "AD24",
        "AE23",
        "AL28",
        "AT20",
        "AZ28",
        "BA20",
        "BE16",
        "BG22",
        "BH22",
        "BR29",
        "BY28",
        "CH21",
        "CR22",
        "CY28",
        "CZ24",
        "DE22",
        "DK18",
        "DO28",
        "EE20",
        "EG29",
        "ES24",
        "FI18",
        "FO18",
        "FR27",
        "GB22",
        "GE22",
        "GI23",
        "GL18",
        "GR27",
        "GT28",
        "HR21",
        "HU28",
        "IE22",
        "IL23",
        "IQ23",
        "IS26",
        "IT27",
        "JO30",
        "KW30",
        "KZ20",
        "LB28",
        "LC32",
        "LI21",
        "LT20",
        "LU20",
        "LV21",
        "LY25",
        "MC27",
        "MD24",
        "ME22",
        "MK19",
        "MR27",
        "MT31",
        "MU30",
        "NL18",
        "NO15",
        "PK24",
        "PL28",
        "PS29",
        "PT25",
        "QA29",
        "RO24",
        "RS22",
        "SA24",
        "SC31",
        "SE24",
        "SI19",
        "SK24",
        "SM27",
        "ST25",
        "SV28",
        "TL23",
        "TN24",
        "TR26",
        "UA29",
        "VA22",
        "VG24",
        "XK20",
    ]
}
"""Characters of bank account numbers by country (registry of ISO 13616)."""


def mask_values(text: str, patterns: Sequence[str]) -> str:
    """Return a text with what matches one of these patterns (names in ``PATTERNS``) replaced."""
    for name in patterns:
        text = PATTERNS[name](text)
    return text


def _mask_emails(text: str) -> str:
    return _EMAIL.sub(MASKED, text) if "@" in text else text


def _mask_phones(text: str) -> str:
    """Mask phone numbers in international form: others look like dates and amounts."""
    return _PHONE.sub(_mask_phone, text)


def _mask_phone(match: re.Match[str]) -> str:
    found = match[0].rstrip(" ()./-")
    digits = sum(character.isdigit() for character in found)
    return MASKED + match[0][len(found) :] if digits >= _PHONE_DIGITS else match[0]


def _mask_cards(text: str) -> str:
    return _CARD.sub(_mask_card, text)


def _mask_card(match: re.Match[str]) -> str:
    digits = [int(character) for character in match[0] if character.isdigit()]
    return MASKED if len(digits) in _CARD_DIGITS and _is_luhn(digits) else match[0]


def _is_luhn(digits: Sequence[int]) -> bool:
    """Whether the check digit of a payment card number is right (ISO/IEC 7812, annex B)."""
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0


def _mask_ibans(text: str) -> str:
    return _IBAN.sub(_mask_iban, text)


def _mask_iban(match: re.Match[str]) -> str:
    """Mask as many characters as the country's numbers have: words in capitals may follow."""
    length = _IBAN_LENGTHS.get(match[0][:2], 0)
    ends = [place + 1 for place, character in enumerate(match[0]) if character != " "]
    if not length or len(ends) < length or not _is_iban(match[0][: ends[length - 1]].replace(" ", "")):
        return match[0]
    return MASKED + match[0][ends[length - 1] :]


def _is_iban(text: str) -> bool:
    """Whether the check digits are right (ISO 13616, ISO 7064 MOD 97-10)."""
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def _mask_addresses(text: str) -> str:
    return _IP.sub(_mask_address, text)


def _mask_address(match: re.Match[str]) -> str:
    return MASKED if all(int(part) <= 255 for part in match[0].split(".")) else match[0]


PATTERNS: Final[Mapping[str, Callable[[str], str]]] = {
    "email": _mask_emails,
    "phone": _mask_phones,
    "payment_card": _mask_cards,
    "iban": _mask_ibans,
    "ip": _mask_addresses,
}
"""E-mail addresses, phone numbers in international form, numbers of payment cards and bank accounts with valid check
digits, and IPv4 addresses."""
