"""Markup: every text is escaped, and nothing that the content security policy refuses gets in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.console.markup import Markup, description_list, join, render_badge, render_element, render_table

HOSTILE = "<script>alert(1)</script>\"'&"


def test_texts_are_escaped_and_markup_is_not() -> None:
    assert render_element("p", HOSTILE) == "<p>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;</p>"
    assert render_element("p", render_element("b", "x"), None, "") == "<p><b>x</b></p>"
    assert join("a", None, Markup("<br>")) == "a<br>"


def test_attributes_are_escaped_by_name_and_value() -> None:
    made = render_element("td", title=HOSTILE, class_="x", aria_hidden="true", tabindex=-1, hidden=True, id=None)
    assert made == (
        '<td title="&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;" class="x" aria-hidden="true" '
        'tabindex="-1" hidden></td>'
    )
    assert render_element("meta", name="viewport") == '<meta name="viewport">'
    assert render_element("rect", width=1) == '<rect width="1"/>'


@pytest.mark.parametrize("attributes", [{"style": "x"}, {"onclick": "x"}, {"href": "javascript:x"}, {"src": "//x/y"}])
def test_what_could_run_or_leave_the_origin_is_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"refuses|relative"):
        render_element("a", **attributes)


@given(st.text())
def test_no_text_brings_a_tag(text: str) -> None:
    made = render_element("p", text, title=text)
    assert made.count("<") == made.count(">") == 2


def test_a_table_has_a_caption_and_headers_for_its_rows() -> None:
    made = render_table("Models", ("Name", "State"), [("a", render_badge("READY", "good"))])
    assert '<caption class="hidden">Models</caption>' in made
    header, cell = '<th scope="row" role="rowheader">a</th>', '<span class="badge good">READY</span></td>'
    assert f'{header}<td role="cell" data-title="State">{cell}' in made
    assert render_table("Models", ("Name",), [], "No models.") == '<p class="muted">No models.</p>'


def test_facts_are_a_description_list() -> None:
    assert description_list([("Name", "<x>")]) == '<dl class="facts"><dt>Name</dt><dd>&lt;x&gt;</dd></dl>'
