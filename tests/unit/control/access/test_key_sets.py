"""Keys of issuers: a file is read again when it changes, and a set that cannot be read is kept as it was."""

import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from penstock.control.access.key_sets import EARLY_S, EarlyFetches, IssuerSource, KeySets
from penstock.core.access.table import Issuer


def key_set(kid: str) -> str:
    return json.dumps({"keys": [ECKey.generate_key("P-256", {"kid": kid}).as_dict(private=False)]})


def source(file: Path | None = None, url: str = "") -> IssuerSource:
    return IssuerSource(Issuer("https://issuer", "penstock", ""), file, url)


def kids(sets: KeySets) -> list[str]:
    return [key["kid"] for key in json.loads(sets.issuers()[0].jwks)["keys"]]


def test_unknown_keys_cause_one_fetch_in_some_seconds_however_many_they_are() -> None:
    fetches, begun = EarlyFetches(), []
    for step in range(1000):  # ten seconds with a hundred tokens each
        now = step / 100
        if fetches.is_due(refused=step // 10 * 100, now=now):
            fetches.begin(step // 10 * 100, now)
            begun.append(now)
    assert begun == [0.1, 0.1 + EARLY_S]


def test_a_usual_fetch_counts_and_unknown_keys_of_before_it_cause_none() -> None:
    fetches = EarlyFetches()
    assert not fetches.is_due(0, 0.0)
    fetches.begin(3, 10.0)
    assert not fetches.is_due(3, 100.0)
    assert not fetches.is_due(4, 10.0 + EARLY_S / 2)
    assert fetches.is_due(4, 10.0 + EARLY_S)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(key_set("a"))
    sets = KeySets([source(file)])
    assert sets.issuers()[0].jwks == ""
    sets.read_files()
    assert kids(sets) == ["a"] and not sets.has_addresses
    replaced = tmp_path / "new.json"
    replaced.write_text(key_set("b"))
    replaced.replace(file)
    sets.read_files()
    assert kids(sets) == ["b"]


@pytest.mark.parametrize("content", [None, "no keys", '{"keys": []}', "x" * (1 << 21)])
def test_a_set_that_cannot_be_read_is_kept_and_said_once(
    content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(key_set("a"))
    sets = KeySets([source(file)])
    sets.read_files()
    file.unlink()
    if content is not None:
        file.write_text(content)
    for _ in range(3):
        sets.read_files()
    assert kids(sets) == ["a"]
    assert caplog.text.count("stay as they are") == 1
    file.unlink(missing_ok=True)
    file.write_text(key_set("c"))
    sets.read_files()
    assert kids(sets) == ["c"]


def test_an_address_that_does_not_answer_keeps_the_keys(caplog: pytest.LogCaptureFixture) -> None:
    sets = KeySets([source(url="http://127.0.0.1:1/keys")])
    sets.restore([Issuer("https://issuer", "penstock", key_set("a")), Issuer("https://other", "penstock", "x")])
    for _ in range(2):
        sets.fetch()
    assert kids(sets) == ["a"] and sets.has_addresses
    assert caplog.text.count("stay as they are") == 1


def test_each_issuer_has_its_own_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.json"
    file.write_text(key_set("a"))
    distant = IssuerSource(Issuer("https://other", "penstock", ""), None, "http://127.0.0.1:1/keys")
    sets = KeySets([distant, source(file)])
    for _ in range(2):  # a file that has not changed is not read again
        sets.read_files()
        sets.fetch()
    first, second = sets.issuers()
    assert (first.jwks, json.loads(second.jwks)["keys"][0]["kid"]) == ("", "a")
    assert caplog.text.count("stay as they are") <= 1
