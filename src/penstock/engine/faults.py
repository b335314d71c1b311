"""What ONNX Runtime's errors become: one sentence each, without paths or the runtime's own code places."""

import re

from penstock.core.errors import Fault, Internal, InvalidInput

LONGEST_TEXT = 300
"""Characters of a runtime's text that are passed on."""

_PREFIXES = (
    re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : "),
    re.compile(r"Load model from .* failed:", re.DOTALL),
    re.compile(r".*Status Message: ", re.DOTALL),
    # where in the runtime's source the check stands: file:line, function signature, condition
    re.compile(r"\w+\.(?:cc|h):\d+ \w+ "),
    re.compile(r"/\S+:\d+ [^()]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? (?:.*? was false\. )?"),
)
_INNARDS = re.compile(r"(?:^|[\s'\"(:=])[~.]{0,2}/\w|\w:\\|onnxruntime::|\.(?:cc|h|onnx):?\d*\b")


class LoadFailed(Fault):
    """A model file that cannot be served; the text says why, in words for the model's owner."""

    kind = "invalid"


def load_fault(error: Exception) -> LoadFailed:
    """The fault for an error met while a graph was opened."""
    text = plain_text(error)
    return LoadFailed(f"the graph cannot be loaded: {text}" if text else "the graph cannot be loaded by ONNX Runtime")


def run_fault(error: Exception) -> Fault:
    """The fault for an error met in a run: ours, since names, types and shapes were checked before it began."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, UnicodeDecodeError):
        return Internal("the model gave text that is not UTF-8; a BYTES output must be UTF-8")
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("a BYTES element holds a lone surrogate, which is no Unicode text")
    text = plain_text(error)
    return Internal(f"the model failed at run time: {text}" if text else "the model failed at run time")


def plain_text(error: Exception) -> str:
    """The error's own sentence, or "" where it cannot be told without paths or the runtime's innards."""
    text = str(error)
    for prefix in _PREFIXES:
        found = prefix.match(text)
        text = text[found.end() :] if found else text
    text = " ".join(text.split())[:LONGEST_TEXT]
    return "" if _INNARDS.search(text) else text
