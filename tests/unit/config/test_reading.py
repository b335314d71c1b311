"""How plain values become sections of settings: types, bounds, faults with their paths, the environment, the schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from penstock.config.environment import merge, read_environment
from penstock.config.fields import Check, Expected, Field, Prepare, Section, plain_value
from penstock.config.reading import SettingFault, read_section
from penstock.config.schema import schema_of

NAME = "name"


def _even(number: int) -> None:
    if number % 2:
        raise ValueError("expected an even number")


class Inner(Section):
    """A section in another."""

    size: Annotated[int, Field(ge=1, le=9)] = 3
    """How large."""

    name: str
    """What it is called,
    in two lines."""

    def check(self) -> None:
        """See ``Section``."""
        if self.name == "nine" and self.size != 9:
            raise ValueError("nine is 9")


def _make(**values: Any) -> Inner:
    return Inner(**values)


class Outer(Section):
    """A section."""

    on: bool = False
    number: int = 0
    even: Annotated[int, Check(_even)] = 2
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    text: Annotated[str, Field(min_length=1, max_length=4, pattern="[a-z]*")] = "a"
    file: Path | None = None
    mode: Literal["fast", "safe", "off"] = "off"
    only: Literal["x"] = "x"
    count: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], Expected("expected a number, or auto")] = "auto"
    either: int | Literal["auto"] = "auto"
    items: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    split: Annotated[tuple[str, ...], Prepare(lambda value: value.split(","))] = ()
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    by_name: Annotated[Mapping[Annotated[str, Field(pattern="[a-z]+")], Inner], Field(max_length=1)] = {}
    loose: Mapping[str, Any] = {}


def read(**document: Any) -> tuple[Outer | None, list[tuple[str, str]]]:
    faults: list[SettingFault] = []
    section = read_section(Outer, document, faults)
    return section, [(".".join(fault.path), fault.message) for fault in faults]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("on", True, True),
        ("on", "Yes", True),
        ("on", "0", False),
        ("on", 1, True),
        ("number", "12", 12),
        ("number", " -3 ", -3),
        ("number", 4.0, 4),
        ("share", 1, 1.0),
        ("share", "0.5", 0.5),
        ("file", "a/b", Path("a/b")),
        ("file", Path("c"), Path("c")),
        ("file", None, None),
        ("mode", "safe", "safe"),
        ("count", "auto", "auto"),
        ("count", "7", 7),
        ("items", [1, "2"], (1, 2)),
        ("items", (3,), (3,)),
        ("split", "a,b", ("a", "b")),
        ("inner", {"name": "n"}, Inner(name="n")),
        ("inner", Inner(name="n", size=4), Inner(name="n", size=4)),
        ("inners", [{"name": "n"}], (Inner(name="n"),)),
        ("by_name", {"a": {"name": "n"}}, {"a": Inner(name="n")}),
        ("loose", {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
    ],
)
def test_values_take_the_form_of_their_type(name: str, value: object, expected: object) -> None:
    section, faults = read(**{name: value})
    assert faults == []
    assert getattr(section, name) == expected
    assert section is not None
    assert section.given == {name}


@pytest.mark.parametrize(
    ("name", "value", "path", "message"),
    [
        ("on", "maybe", "on", "expected true or false"),
        ("on", 2, "on", "expected true or false"),
        ("on", None, "on", "expected true or false"),
        ("number", True, "number", "expected a whole number"),
        ("number", 1.5, "number", "expected a whole number"),
        ("number", "1e3", "number", "expected a whole number"),
        ("number", "9" * 40, "number", "expected a whole number"),
        ("even", 3, "even", "expected an even number"),
        ("share", 0, "share", "expected more than 0"),
        ("share", 1.01, "share", "expected at most 1"),
        ("share", float("nan"), "share", "expected a number"),
        ("share", "inf", "share", "expected a number"),
        ("share", 10**400, "share", "expected a number"),
        ("share", "x", "share", "expected a number"),
        ("share", False, "share", "expected a number"),
        ("text", 1, "text", "expected a text"),
        ("text", "", "text", "expected at least 1 characters"),
        ("text", "abcde", "text", "expected at most 4 characters"),
        ("text", "A", "text", "expected a text of the form [a-z]*"),
        ("text", "a\n", "text", "expected a text of the form [a-z]*"),
        ("file", 1, "file", "expected a path"),
        ("mode", "slow", "mode", "expected fast, safe or off"),
        ("mode", False, "mode", "expected fast, safe or off"),
        ("only", "y", "only", "expected x"),
        ("count", 0, "count", "expected a number, or auto"),
        ("count", "all", "count", "expected a number, or auto"),
        ("either", "all", "either", "expected auto"),
        ("items", [], "items", "expected at least 1 items"),
        ("items", "1", "items", "expected a list"),
        ("items", [1, "x"], "items.1", "expected a whole number"),
        ("inner", 1, "inner", "expected a section of settings"),
        ("inner", {}, "inner.name", "a value is required"),
        ("inner", {"name": "nine"}, "inner", "nine is 9"),
        ("inner", {"name": "n", "size": 10}, "inner.size", "expected at most 9"),
        ("inner", {"name": "n", "other": 1}, "inner.other", ""),
        ("by_name", [], "by_name", "expected a mapping"),
        ("by_name", {"A": {"name": "n"}}, "by_name.A", "expected a text of the form [a-z]+"),
        ("by_name", {"a": {"name": "n"}, "b": {"name": "n"}}, "by_name", "expected at most 1 items"),
    ],
)
def test_a_value_that_does_not_fit_is_a_fault_at_its_path(name: str, value: object, path: str, message: str) -> None:
    assert read(**{name: value}) == (None, [(path, message)])


def test_every_fault_is_reported() -> None:
    section, faults = read(on="x", number="y", other=1, inners=[{"size": 0}, {"name": 1}])
    assert section is None
    assert [path for path, _ in faults] == ["other", "on", "number", "inners.0.name", "inners.0.size", "inners.1.name"]


def test_a_section_cannot_be_changed_and_compares_by_its_values() -> None:
    section = Inner(name="a")
    with pytest.raises(AttributeError, match="cannot be changed"):
        setattr(section, NAME, "b")
    with pytest.raises(AttributeError, match="cannot be changed"):
        delattr(section, NAME)
    assert section == Inner(name="a", size=3) != Inner(name="b")
    assert len({section, Inner(name="a", size=3)}) == 1
    assert repr(section) == "Inner(size=3, name='a')"
    assert section != 1


def test_a_section_is_not_made_of_unknown_or_missing_fields() -> None:
    with pytest.raises(TypeError, match="no fields"):
        _make(name="a", other=1)
    with pytest.raises(TypeError, match="needs"):
        _make(size=1)


def test_the_environment_states_sections_by_their_names_or_whole() -> None:
    faults: list[SettingFault] = []
    document = read_environment(
        Outer,
        {
            "PENSTOCK_ON": "yes",
            "penstock_number": "3",
            "PENSTOCK_INNER": '{"name": "n", "size": 1}',
            "PENSTOCK_INNER__SIZE": "2",
            "PENSTOCK_BY_NAME__A__NAME": "m",
            "PENSTOCK_ITEMS": "[1, 2]",
            "PENSTOCK_SPLIT": "a,b",
            "PENSTOCK_LOOSE__B": '{"c": 1}',
            "PENSTOCK_LOOSE__D": "text",
            "PENSTOCK_OTHER": "not a setting",
            "OTHER_ON": "x",
        },
        faults,
    )
    section = read_section(Outer, document, faults)
    assert faults == []
    assert section == Outer(
        on=True,
        number=3,
        inner=Inner(name="n", size=2),
        by_name={"a": Inner(name="m")},
        items=(1, 2),
        split=("a", "b"),
        loose={"b": {"c": 1}, "d": "text"},
    )


def test_a_list_in_the_environment_is_json() -> None:
    faults: list[SettingFault] = []
    read_environment(Outer, {"PENSTOCK_ITEMS": "1, 2"}, faults)
    assert [(fault.path, fault.message) for fault in faults] == [(("items",), "expected JSON in the environment")]


def test_documents_are_merged_by_their_sections() -> None:
    assert merge({"a": {"b": 1}, "c": [1]}, {"a": {"b": 2, "d": 3}, "c": [2], "e": 4}) == {
        "a": {"b": 1, "d": 3},
        "c": [1],
        "e": 4,
    }


def test_the_schema_has_types_bounds_defaults_and_sentences() -> None:
    schema = schema_of(Outer)
    properties, inner = schema["properties"], schema["$defs"]["Inner"]
    assert inner["required"] == ["name"]
    assert inner["properties"]["size"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "default": 3,
        "description": "How large.",
    }
    assert inner["properties"]["name"] == {"type": "string", "description": "What it is called,\nin two lines."}
    assert properties["share"] == {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1.0}
    assert properties["mode"] == {"type": "string", "enum": ["fast", "safe", "off"], "default": "off"}
    assert properties["count"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"type": "string", "const": "auto"}]
    assert properties["file"]["anyOf"] == [{"format": "path", "type": "string"}, {"type": "null"}]
    assert properties["items"] == {"type": "array", "items": {"type": "integer"}, "minItems": 1, "default": [1]}
    assert properties["by_name"]["patternProperties"] == {"[a-z]+": {"$ref": "#/$defs/Inner"}}
    assert properties["by_name"]["maxProperties"] == 1
    assert properties["loose"]["additionalProperties"] is True


def test_values_are_shown_as_json_has_them() -> None:
    shown = plain_value(Outer(file=Path("a"), inner=Inner(name="n"), by_name={"x": Inner(name="m")}))
    assert (shown["file"], shown["inner"], shown["items"]) == ("a", {"size": 3, "name": "n"}, [1])
    assert shown["by_name"] == {"x": {"size": 3, "name": "m"}}
