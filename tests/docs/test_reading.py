"""How pages are read: blocks, commands, and what they print."""

from pathlib import Path

import pytest

from tests.docs.pages import Command, File, agrees, steps_of

PAGE = """
# A page

```python title="a.py"
print(1)
```

```console title="Terminal 1"
$ export A=1
$ serve it
...
ready
```

```console
$ say 'two
  lines' \\
  and more
one ... three
```

```console title="Terminal 1"
^C
```

```text
nothing to do
```
"""


def test_a_page_is_files_and_commands_in_order(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    assert steps_of(tmp_path / "page.md") == [
        File("a.py", "print(1)\n"),
        Command("Terminal 1", "export A=1", (), 9, stays=False),
        Command("Terminal 1", "serve it", ("...", "ready"), 10, stays=True),
        Command("", "say 'two\n  lines' \\\n  and more", ("one ... three",), 16, stays=False),
        Command("Terminal 1", "^C", (), 23, stays=False),
    ]


def test_a_console_without_a_prompt_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("```console\nls\n```\n")
    with pytest.raises(ValueError, match="line 2"):
        steps_of(tmp_path / "page.md")


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["a"], ["a"], True),
        (["a"], ["", "a  ", ""], True),
        (["a"], ["b"], False),
        (["a"], ["a", "b"], False),
        (["a", "..."], ["a", "b", "c"], True),
        (["a", "..."], ["a"], True),
        (["...", "c"], ["a", "b", "c"], True),
        (["...", "c"], ["a", "b"], False),
        (["a", "...", "c"], ["a", "c"], True),
        (["a...d"], ["a b c d"], True),
        (["a...d"], ["a b", "c d"], False),
        (["..."], [], True),
    ],
)
def test_dots_stand_for_anything(expected: list[str], printed: list[str], same: bool) -> None:
    assert agrees(tuple(expected), printed) == same
