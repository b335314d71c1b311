"""Reads and writes YAML and JSON files, and finds the line of each value.

The YAML library is imported by the first document: most gateways start without one.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml


_ODD_BREAKS = frozenset("\r\x85\u2028\u2029")
"""Ends of lines in YAML 1.1 that only a text in double quotes keeps."""


class ConfigFault(Exception):
    """Invalid settings; ``faults`` has a sentence for each error."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def read_document(file: Path, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file; ``what`` names the file in messages.

    Raises:
        ConfigFault: the file cannot be read, or is not a mapping.
    """
    document, faults = read_mapping(file, what, "lines such as 'name: value'")
    if faults:
        raise ConfigFault(faults)
    return document


def read_mapping(file: Path | None, what: str, expected: str) -> tuple[dict[str, Any], list[str]]:
    """Return the mapping in a file ({} without a file), and its errors; ``what`` names the file in messages, and
    ``expected`` describes its content."""
    if file is None:
        return {}, []
    import yaml  # noqa: PLC0415 - see above

    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        return {}, [f"{what} {file} cannot be read: {(error.strerror or 'error').lower()}"]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return {}, [f"{what} {file} is not valid YAML: {describe_problem(error)}"]
    if content is None:
        return {}, []
    if not isinstance(content, dict):
        return {}, [f"{what} {file} is not a mapping; expected {expected}"]
    return {str(key): value for key, value in content.items()}, []


def describe_problem(error: Exception) -> str:
    """Return what is wrong with a document, and where; never a part of it, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
    problem = getattr(error, "problem", None) or "it cannot be read as text"
    return re.sub(r"'[^']{2,}'", "'...'", problem) + place


def read_text(text: str) -> Any:
    """Return the value of a YAML text; raises ``ValueError`` if it is none."""
    import yaml  # noqa: PLC0415 - see above

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(describe_problem(error)) from None


def write_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML."""
    import yaml  # noqa: PLC0415 - see above

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def written_with_blocks(document: dict[str, Any]) -> str:
    """Return a document as YAML, with texts of several lines as blocks.

    libyaml writes it, in a tenth of the time, if PyYAML was built with it.
    """
    import yaml  # noqa: PLC0415 - see above

    dumper: Any = type("BlockDumper", (yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper,), {})
    dumper.add_representer(str, _represent_text)
    written: str = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    return written


def _represent_text(dumper: Any, text: str) -> "yaml.ScalarNode":
    """Choose the style of a text; where a block cannot hold it, PyYAML quotes it."""
    style = '"' if _ODD_BREAKS & set(text) else "|" if "\n" in text else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


def lines_of(file: Path) -> dict[str, int]:
    """Return the line of each value of a YAML or JSON file, by its path in error texts (``triggers[0].when``)."""
    import yaml  # noqa: PLC0415 - see above

    lines: dict[str, int] = {}

    def walk(node: "yaml.Node | None", path: str) -> None:
        if node is None:
            return
        lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = f"{path}.{key.value}" if path else str(key.value)
                walk(value, below)
                lines[below] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                walk(value, f"{path}[{index}]")

    walk(yaml.compose(file.read_text(), yaml.SafeLoader), "")
    return lines
