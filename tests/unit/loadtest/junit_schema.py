"""Compares reports with the XML schema by which Jenkins takes JUnit's, ``junit-10.xsd`` of its plug-in xunit (MIT).

It understands what that schema consists of: references to elements that come in any order and number, attributes that
are required or not, patterns of texts, and mixed contents.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as Xml

_XS = "{http://www.w3.org/2001/XMLSchema}"
_ROOT = Xml.parse(Path(__file__).with_name("junit-10.xsd")).getroot()
_ELEMENTS = {one.get("name"): one for one in _ROOT.findall(f"{_XS}element")}
_TYPES = {one.get("name"): one for one in _ROOT.findall(f"{_XS}complexType")}
_PATTERNS = {
    one.get("name"): one.findall(f".//{_XS}pattern")[0].attrib["value"] for one in _ROOT.findall(f"{_XS}simpleType")
}


def faults_of(report: str) -> list[str]:
    """What Jenkins refuses in a report."""
    return list(_faults(Xml.fromstring(report)))


def _faults(element: Xml.Element) -> Iterator[str]:
    declared = _ELEMENTS.get(element.tag)
    if declared is None:
        yield f"{element.tag} is not an element"
        return
    kind = declared.find(f"{_XS}complexType")
    kind = _TYPES.get(declared.get("type")) if kind is None else kind
    if kind is None:  # a text
        if len(element) or element.attrib:
            yield f"{element.tag} is a text"
        return
    yield from _faults_of_attributes(element, kind)
    if (element.text or "").strip() and kind.get("mixed") != "true":
        yield f"{element.tag} has a text"
    allowed = {child.get("ref") or child.get("name") for child in kind.iter(f"{_XS}element")}
    for child in element:
        if child.tag not in allowed:
            yield f"{element.tag} has {child.tag}"
        yield from _faults(child)


def _faults_of_attributes(element: Xml.Element, kind: Xml.Element) -> Iterator[str]:
    declared = {one.get("name"): one for one in kind.findall(f"{_XS}attribute")}
    for name, value in element.attrib.items():
        if name not in declared:
            yield f"{element.tag} has the attribute {name}"
        elif (pattern := _PATTERNS.get(declared[name].get("type"))) and not re.fullmatch(pattern, value):
            yield f"{element.tag}: {name} is {value!r}"
    required = {one.attrib["name"] for one in declared.values() if one.get("use") == "required"}
    yield from (f"{element.tag} lacks {name}" for name in required - element.attrib.keys())
