"""Reads policies that callers send as YAML or JSON, with the line of each value; bounded, and nothing but plain values.

The values are built from the parser's events. So there are no objects, no tags, and no anchors with which a small text
would become a large document. Repeated keys are refused, as in JSON.
"""

import math
from typing import Any, Final, NoReturn

from penstock.config.documents import describe_problem
from penstock.core.policy_faults import PolicyFault, PolicyText, UnreadableText

MOST_CHARACTERS: Final = 64 << 10
MOST_VALUES: Final = 5000
DEEPEST: Final = 20

_SCALARS: Final = "tag:yaml.org,2002:"


def read_policy_text(text: str) -> PolicyText:
    """Return the mapping in a YAML or JSON text, with the line of each value. Takes up to half a second: not for an
    event loop.

    Raises:
        UnreadableText: it is too long, not valid, not a mapping, or uses anchors, aliases, tags or repeated keys.
    """
    import yaml  # noqa: PLC0415 - most gateways start without it

    if len(text) > MOST_CHARACTERS:
        raise UnreadableText(PolicyFault(f"the policy is longer than {MOST_CHARACTERS} characters"))
    try:
        reader = _Reader(yaml.SafeLoader(text))
        document = reader.read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        raise UnreadableText(PolicyFault(f"it is not valid YAML: {describe_problem(error)}", "", line)) from None
    return PolicyText(document, reader.lines)


class _Reader:
    """Builds the values of one text from the events of a ``yaml.SafeLoader``, most of which has no type hints."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._values = 0
        self.lines: dict[str, int] = {}

    def read(self) -> dict[str, Any]:
        """Return the mapping of the only document, {} for an empty text."""
        import yaml  # noqa: PLC0415 - see above

        self._next()  # the start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return {}
        value = self._value(self._next(), "", 0)
        self._next()  # the end of the document
        if not isinstance(after := self._next(), yaml.StreamEndEvent):
            _refuse(after, "it has more than one document")
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise UnreadableText(PolicyFault("it is not a mapping; expected lines such as 'monitor:'", "", 1))
        return value

    def _next(self) -> Any:
        return self._loader.get_event()

    def _value(self, event: Any, path: str, depth: int) -> Any:
        import yaml  # noqa: PLC0415 - see above

        self._check(event, depth)
        self.lines.setdefault(path, _line_of(event))
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        return _refuse(event, "a value is missing")

    def _check(self, event: Any, depth: int) -> None:
        import yaml  # noqa: PLC0415 - see above

        self._values += 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            _refuse(event, "anchors and aliases are not supported; repeat the value")
        if getattr(event, "tag", None) is not None:
            _refuse(event, "tags are not supported; write the plain value")
        if depth > DEEPEST:
            _refuse(event, f"values are nested more than {DEEPEST} deep")
        if self._values > MOST_VALUES:
            _refuse(event, f"it has more than {MOST_VALUES} values")

    def _sequence(self, path: str, depth: int) -> list[Any]:
        import yaml  # noqa: PLC0415 - see above

        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, f"{path}[{len(items)}]", depth + 1))
        return items

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        import yaml  # noqa: PLC0415 - see above

        values: dict[str, Any] = {}
        event: Any
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            self._check(event, depth)
            if not isinstance(event, yaml.ScalarEvent):
                _refuse(event, "a key must be a plain text")
            key = str(event.value)
            if key in values:
                _refuse(event, f"the key '{key[:100]}' is repeated")
            below = f"{path}.{key}" if path else key
            self.lines[below] = _line_of(event)
            values[key] = self._value(self._next(), below, depth + 1)
        return values

    def _scalar(self, event: Any) -> Any:
        """Return a text, or what an unquoted one means: nothing, a truth value or a finite number."""
        import yaml  # noqa: PLC0415 - see above

        tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            match tag.removeprefix(_SCALARS):
                case "null":
                    return None
                case "bool":
                    return self._loader.construct_yaml_bool(node)
                case "int":
                    return self._loader.construct_yaml_int(node)
                case "float":
                    return _require_finite(event, self._loader.construct_yaml_float(node))
        except ValueError:
            _refuse(event, "a number cannot be read")
        return str(event.value)


def _require_finite(event: Any, number: float) -> float:
    return number if math.isfinite(number) else _refuse(event, "a number must be finite")


def _refuse(event: Any, message: str) -> NoReturn:
    raise UnreadableText(PolicyFault(message, "", _line_of(event)))


def _line_of(event: Any) -> int:
    return int(event.start_mark.line) + 1
