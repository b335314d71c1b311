"""A public class has one name in the whole source: a name that two classes share does not say which one is meant."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import penstock

SOURCE = Path(penstock.__file__).parent


def public_classes(code: str) -> Iterator[str]:
    """Names of the public classes of a module."""
    yield from re.findall(r"^class ([^\W_]\w*)", code, re.MULTILINE)


def test_no_two_public_classes_share_a_name() -> None:
    files = [file for file in SOURCE.rglob("*.py") if "_pb2" not in file.name]
    names = Counter(name for file in files for name in public_classes(file.read_text()))
    assert names.total() > 400  # the search finds something
    assert not [name for name, count in names.items() if count > 1], "say of what: RuleAction, LeaseAction"


def test_only_public_classes_of_a_module_count() -> None:
    code = "class A: ...\nclass _B: ...\ndef f():\n    class C: ...\nclass D(A):\n    class E: ...\n"
    assert list(public_classes(code)) == ["A", "D"]
