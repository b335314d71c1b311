"""Scripts and style sheets lose comments and needless spaces, and nothing that they do."""

import pytest

from penstock.api.console.compact import compact_script, compact_style


@pytest.mark.parametrize(
    ("source", "served"),
    [
        ("// a\n/** b\n * c */\nlet d; // e\n  // f\n", "\nlet d;"),
        ("/** @type {b} */ const c = 1;\n", "const c=1;"),
        ("f((/** @type {Event} */ event) => 1);", "f((event)=>1);"),
        ("let a = {\n  b: 1,\n  c,\n};\n", "let a={b:1,c};"),
        ("let a = [1, , 2,];\nlet [, b] = [,];\nf(\n  c,\n);\n", "let a=[1,,2];let[,b]=[,];f(c);"),
        ("a + +b - -c * d++ + e;", "a + +b - -c*d++ + e;"),
        ("const x = a ? .5 : !b;", "const x=a?.5:!b;"),
        ("function f() {\n  g();\n  h();\n}\nclass A {\n  #b;\n}\n", "function f(){g();h()}\nclass A{#b}\n"),
        ("let a = {}\nlet b;", "let a={}\nlet b;"),
        ("return value\n  in y;", "return value\nin y;"),
        ('f("a // b  c", \'/* "d\\\' */\' );', 'f("a // b  c",\'/* "d\\\' */\');'),
        ("x = /[/\"`]\\/ {2}/g.test( y ) / 2 / 3;", "x=/[/\"`]\\/ {2}/g.test(y)/ 2 / 3;"),
        ("let b = `\n  c // d${ `e  ${ {f: 1}.f } g` }  h`;", "let b=`\n  c // d${`e  ${{f:1}.f} g`}  h`;"),
        ("html`<p>\n   ${ a( (b) => html`\n  ${b}  c` ) }\n  </p>`;", "html`<p>${a((b)=>html`${b}  c`)}</p>`;"),
        ("html`<p\n  a=${b}\n  c>\n  d\n  e\n  ${f}\n  g</p>`;", "html`<p\na=${b}\nc>d\ne${f}\ng</p>`;"),
        ("xhtml`\\`\n  \\${ $ { `;", "xhtml`\\`\n  \\${ $ { `;"),
    ],
)  # fmt: skip
def test_scripts_lose_comments_and_spaces_but_no_text(source: str, served: str) -> None:
    assert compact_script(source) == served
    assert compact_script(served) == served


@pytest.mark.parametrize("source", ["let a = `b", "let a = 'b\n", "let a = /b\n", "`${ a`", "/* a"])
def test_an_unterminated_text_is_not_a_script(source: str) -> None:
    with pytest.raises(ValueError, match="has no end"):
        compact_script(source)


def test_style_sheets_lose_comments_and_spaces() -> None:
    source = '/* a */\n.b :hover, td > c { color: red;\n  content: "○ "; }\n@media (width < 3rem) { d { e: f; } }\n'
    assert compact_style(source) == '.b :hover,td > c{color:red;content:"○ ";}@media (width < 3rem){d{e:f;}}'
