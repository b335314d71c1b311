"""Builds HTML of which every text is escaped: a text becomes markup only here."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta", "rect", "wbr"})
"""Elements without content and end tag (HTML living standard §13.1.2; ``rect`` of SVG has no content here)."""

_ADDRESSES: Final = frozenset({"action", "formaction", "href", "src"})
_RELATIVE: Final = ("#", "./", "../", "?")
"""How the addresses of links begin: no text of a user becomes a scheme such as ``javascript:``."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None
"""A child of an element: ``Markup`` as it is, any other text escaped; None is left out."""

Attribute = str | int | bool | None
"""True is an attribute without a value; False and None leave it out."""


def render_element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element. A trailing underscore of an attribute's name is dropped, other ones become hyphens.

    Raises:
        ValueError: an attribute is one that the content security policy refuses (``style``, ``on…``), or an address
            that is not relative.
    """
    fields = "".join(_render_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{fields}>" if name != "rect" else f"<{name}{fields}/>")
    return Markup(f"<{name}{fields}>{join(*children)}</{name}>")


def _render_attribute(name: str, value: Attribute) -> str:
    if name == "style" or name.startswith("on"):
        raise ValueError(f"the content security policy refuses the attribute {name}")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    if name in _ADDRESSES and not str(value).startswith(_RELATIVE):
        raise ValueError(f"the address of {name} must be relative")
    return f' {name}="{escape(str(value))}"'


def join(*children: Child) -> Markup:
    """Return children one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children if child))


def render_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Child]], empty: str = "None.") -> Markup:
    """Return a table with a caption for screen readers; the first cell of each row is its header."""
    body = [_render_row(heads, cells) for cells in rows]
    if not body:
        return render_element("p", empty, class_="muted")
    head = render_element(
        "tr", *(render_element("th", text, scope="col", role="columnheader") for text in heads), role="row"
    )
    groups = (render_element("thead", head, role="rowgroup"), render_element("tbody", *body, role="rowgroup"))
    parts = (render_element("caption", caption, class_="hidden"), *groups)
    return render_element(
        "div",
        render_element("table", *parts, role="table"),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def _render_row(heads: Sequence[str], cells: Sequence[Child]) -> Markup:
    """Return a row; in a narrow window the heads stand before its cells, and the roles keep it one of a table."""
    header = render_element("th", cells[0], scope="row", role="rowheader")
    titled = zip(heads[1:], cells[1:], strict=True)
    others = (render_element("td", cell, role="cell", data_title=head) for head, cell in titled)
    return render_element("tr", header, *others, data_row=True, role="row")


def render_badge(text: str, kind: str = "") -> Markup:
    """Return a state as a badge: a text with a shape; ``kind`` is "good", "warn", "bad" or ""."""
    return render_element("span", text, class_=f"badge {kind}".rstrip())


def description_list(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Return names with their values as a description list."""
    return render_element(
        "dl", *(join(render_element("dt", name), render_element("dd", value)) for name, value in pairs), class_="facts"
    )
