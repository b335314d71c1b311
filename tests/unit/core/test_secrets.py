"""Secrets: no text, error, dump or trace has their value; weak keys sign nothing."""

import copy
import io
import pickle
import traceback

import pytest

from penstock.core.secrets import MissingSecret, Secret, SecretFault, signing_key

VALUE = b"planted-and-long-enough-for-a-key"


def test_a_secret_never_prints() -> None:
    secret = Secret("hook", VALUE)
    texts = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "{}".format(secret),  # noqa: UP032
        repr([secret]),
        repr({"a": secret}),
    ]
    assert not [text for text in texts if "planted" in text]
    assert "hook" in repr(secret)
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_not_in_a_trace_with_local_variables() -> None:
    secret = Secret("hook", VALUE)
    try:
        raise SecretFault(f"{secret} cannot be used")
    except SecretFault as error:
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    out = io.StringIO()
    trace.print(file=out)
    assert "secret = Secret('hook')" in out.getvalue()
    assert "planted" not in out.getvalue()


def test_a_secret_is_not_dumped_or_copied() -> None:
    secret = Secret("hook", VALUE)
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not copied"):
            act(secret)


def test_secrets_are_compared_by_value() -> None:
    assert Secret("a", VALUE) == Secret("b", VALUE)
    assert Secret("a", VALUE) != Secret("a", VALUE + b"!")
    assert Secret("a", VALUE) != VALUE
    assert len({Secret("a", VALUE), Secret("a", VALUE)}) == 1


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"x" * 24, b"x" * 24),
        (b"whsec_" + b"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4", b"x" * 24),
    ],
)
def test_the_key_of_a_secret(value: bytes, key: bytes) -> None:
    assert signing_key(Secret("a", value)) == key


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"", "is empty"),
        (b"x" * 23, "too short"),
        (b"whsec_", "is empty"),
        (b"whsec_eHh4", "too short"),
        (b"whsec_" + b"!" * 40, "no base64"),
    ],
)
def test_weak_secrets_are_refused_as_keys(value: bytes, fault: str) -> None:
    with pytest.raises(SecretFault, match=fault) as found:
        signing_key(Secret("a", value))
    assert value == b"" or value.decode() not in str(found.value)


def test_tokens_and_texts() -> None:
    assert Secret("a", b"t0ken").token() == "t0ken"
    assert Secret("a", "päss".encode()).text() == "päss"
    for value in (b"", b"a b", b"a\r\nb", b"\xff"):
        with pytest.raises(SecretFault, match="not a token"):
            Secret("a", value).token()
    for value in (b"\xff", b"a\0b"):
        with pytest.raises(SecretFault, match="not text"):
            Secret("a", value).text()
    assert issubclass(MissingSecret, SecretFault)
