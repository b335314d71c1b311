"""Texts that people write and others read: nothing in them may break an encoding or steer a terminal."""

import re

_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_SURROGATES = "\ud800-\udfff"
_OVERRIDES = "\u202a-\u202e\u2066-\u2069"
"""Characters that turn the direction of what follows, so that it reads as something else."""

_UNREADABLE = re.compile(f"[{_CONTROLS}{_SURROGATES}]")
_ILLEGIBLE = re.compile(f"[{_CONTROLS}{_SURROGATES}{_OVERRIDES}\r]")


CUT = "..."
"""Stands where something was left out."""

_FILE_TYPES = "cc|h|cpp|hpp|py|so|onnx|onnx_data|ort|pb|bin|data|dat|txt|pbtxt|json"
_PATH = re.compile(
    r"(?<![\w.])(?:[A-Za-z]:|~|\.{1,2})?[\\/][^\s'\"(),;:]*"  # absolute, or from here
    r"|(?<![\w.~-])[\w.~-]+[\\/][\w.~-]+(?:[\\/][^\s'\"(),;:]*|\.\w+)"  # folders before a file
    rf"|(?<![\w.-])(?!ai\.onnx\b)[\w-][\w.-]*\.(?:{_FILE_TYPES})\b(?:\.\w+)?(?::\d+)?"
    r"|[^\s'\"]*::[^\s'\"]*"  # names inside a library
)
_CUTS = re.compile(rf"(?:{re.escape(CUT)}[\s:]*)+{re.escape(CUT)}")


def without_paths(text: str) -> str:
    """A text from inside, fit for callers: paths, file names and a library's inner names are cut out of it, and nothing
    else; "" if nothing is left."""
    text = " ".join(_CUTS.sub(CUT, _PATH.sub(CUT, text)).split())
    return text if re.search(r"\w", text) else ""


def is_readable(text: str) -> bool:
    """Whether a text can be kept and shown: it has no control characters (but tabs and line ends), no half characters.

    Databases refuse NUL, UTF-8 knows no lone surrogates, and terminals obey what begins with an escape.
    """
    return _UNREADABLE.search(text) is None


def is_number(text: str) -> bool:
    """Whether a text is a number as Python reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def shorten(text: str) -> str:
    """A caller's word as an error may repeat it."""
    return text if len(text) <= 128 else text[:125] + "..."


def escape_terminal(document: str) -> str:
    """A JSON document with everything escaped that could steer a terminal; it means the same."""
    return _ILLEGIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def make_legible(text: str) -> str:
    """A text from outside, fit for a terminal: what could steer it is replaced by U+FFFD."""
    return _ILLEGIBLE.sub("\ufffd", text)
