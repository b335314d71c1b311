"""Leaves out of scripts and style sheets what only their readers need: comments, lines, and needless spaces.

Names and texts stay, so that the stack trace of a browser names what the sources name.
"""

import re
from typing import Final

_STOP: Final = re.compile(r"[\"'`/{}]")
_STRING: Final = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_REGEX: Final = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/")
_BEFORE_REGEX: Final = frozenset("=(,:;!&|?{}[>")
"""After these a slash begins a regular expression; after any other it divides (ECMAScript 2023 §12)."""

_TEMPLATE_TEXT: Final = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.DOTALL)
_LINES: Final = re.compile(r"\s*\n\s*")
_NEEDLESS: Final = re.compile(r" +(?=[{}()\[\],;:=<>?&|!])|(?<=[{}()\[\],;:=<>?&|!]) +")
"""Spaces beside these separate nothing. Signs are not among them: ``a + +b`` is not ``a ++b``."""

_SIGNS: Final = re.compile(r"(?<![-+]) ([-+*]) (?![-+])")
_NEEDLESS_MARKS: Final = re.compile(r"(?<=[{(\[,;])\n|;?\n?(?=[}])|\n(?=[)\]])")
"""Line feeds where a statement has its semicolon or goes on, and the last semicolon of a block; there are no empty
statements."""

_LAST_COMMA: Final = re.compile(r"(?<=[^,(\[{]),(?=[)\]}])")
"""A comma after the last item of a list; one after another comma, or alone, would be an item (a hole)."""

_AT_TEXT_END: Final = re.compile(r"\n(?=<|\$\{)|(?<=>)\n")
"""htm leaves out white space with a line feed at either end of a text; attributes never begin with ``${``."""

_HTML: Final = "html"
_TAG: Final = re.compile(r"(?<![\w$])html$")
_BLANK: Final = " "


class _Script:
    """Goes through a script once. ``open`` has what is open: "{" for a brace, or the tag of a template; ``code`` what
    was read and is not written yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.code = ""
        self.out: list[str] = []
        self.open: list[str] = []

    def run(self) -> str:
        """Return the script without what only readers need; raises ``ValueError`` if a part of it has no end."""
        while stop := _STOP.search(self.text, self.at):
            self.code += self.text[self.at : stop.start()]
            self.at = stop.start()
            self._take(stop[0])
        self.code += self.text[self.at :]
        self._write_code("")
        return "".join(self.out)

    def _take(self, mark: str) -> None:
        if mark in "{}":
            self._take_brace(mark)
        elif mark == "`":
            tag = _HTML if _TAG.search(self.code) else mark
            self._take_template(mark, tag)
        elif mark != "/":
            self._write_code(self._read(_STRING))
        elif self.text.startswith(("//", "/*"), self.at):
            self._read(_COMMENT)
        elif (self.code.rstrip() or ";")[-1] in _BEFORE_REGEX:
            self._write_code(self._read(_REGEX))
        else:
            self._take_code(mark)

    def _take_brace(self, mark: str) -> None:
        if mark == "{":
            self.open.append(mark)
        elif (tag := self.open.pop()) != "{":
            self._take_template(mark, tag)
            return
        self._take_code(mark)

    def _take_code(self, mark: str) -> None:
        self.code += mark
        self.at += 1

    def _take_template(self, mark: str, tag: str) -> None:
        """Take the text of a template up to its end or its next ``${``; in HTML a line's indentation says nothing."""
        self.at += 1
        text = self._read(_TEMPLATE_TEXT)
        self._write_code(mark + (_AT_TEXT_END.sub("", _LINES.sub("\n", text)) if tag == _HTML else text))
        if text.endswith("${"):
            self.open.append(tag)

    def _read(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"a script has no end of what begins at {self.text[self.at : self.at + 40]!r}")
        self.at = found.end()
        return found[0]

    def _write_code(self, following: str) -> None:
        """Write the code that was read, and a text after it; beside texts a space separates nothing either."""
        code = _SIGNS.sub(r"\1", _NEEDLESS.sub("", _LINES.sub("\n", self.code)))
        code = _LAST_COMMA.sub("", _NEEDLESS_MARKS.sub("", code))
        self.out += (code.strip(_BLANK), following)
        self.code = ""


def compact_script(text: str) -> str:
    """Return a script that does the same; raises ``ValueError`` for one that is not a script."""
    return _Script(text).run()


def compact_style(text: str) -> str:
    """Return a style sheet that does the same; texts in it must have no comments, and no two spaces."""
    text = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    return re.sub(r" ?([{};,]) ?", r"\1", text).replace(": ", ":").strip()
