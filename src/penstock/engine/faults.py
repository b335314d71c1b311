"""Converts ONNX Runtime's errors: one sentence for callers, the full text for operators, and the responsible side."""

import re
from pathlib import Path

from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from penstock.core.errors import Fault, Internal, InvalidInput, TooLarge
from penstock.core.texts import without_paths

LONGEST_TEXT = 300
"""Maximum characters of the runtime's text for callers."""

LONGEST_DETAIL = 4000
"""Maximum characters of the runtime's text for operators."""

_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_LOADING = re.compile(r"Load model from .*? failed:\s*", re.DOTALL)
_RUNNING = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'[^']*' (?=Status Message: )")
_STATUS = re.compile(r"Status Message: ")
_SOURCE = re.compile(
    # where in the runtime's source a check stands: /file:line, the function with its arguments, the broken condition
    r"(?<!\S)/\S+\.(?:cc|h|cpp|hpp):\d+ [^()]*\([^()]*\)(?:::<lambda\(\)>)?(?: const)?(?: \[with [^\]]*\])? "
    r"(?:[^.]*? was false\. )?"
    # or file:line and the function's name alone
    r"|\b\w+\.(?:cc|h|cpp|hpp):\d+ \w+(?:\(\))? "
)
GUARD = "guard_"
"""Prefix of the names of nodes that admission adds to a graph."""

DIVISOR = "Divisor"
"""Suffix of the names of divisions whose divisors come from requests."""

ELEMENTS = "Elements"
"""Suffix of the names of checks of a result's size."""

MOST_ELEMENTS = 1 << 28
"""Elements of an operator's result whose size a request decides; more of them are over the default of
``limits.max_output_bytes`` even where they have one byte each."""

_EMPTY = re.compile(rf"Name:'{GUARD}_*Div_\d+' .*Integer division by zero", re.DOTALL)
_ZERO_DIVISOR = re.compile(rf"Name:'{GUARD}_*{DIVISOR}_\d+ .*Integer (?:division|modulo) by zero", re.DOTALL)
_TOO_MANY = re.compile(rf"Name:'{GUARD}_*{ELEMENTS}_\d+' .*Integer division by zero", re.DOTALL)
_NOT_A_NUMBER = re.compile(r"Status Message: sto(?:f|d|ld|i|l|ll|ul|ull)$")
_BAD_VALUES = re.compile(
    "|".join(
        [
            "Out of range value in index tensor",  # GatherElements
            "Unknown Category and zeros = 0",  # OneHotEncoder
            r"Tensor shape\.Size\(\) must be >= 0",  # ConstantOfShape, Expand, Pad and others: a size below zero
            "A dimension cannot be less than -1",  # Reshape
            "At most one dimension can be -1",
            "The dimension with value zero exceeds the dimension size",
            r"axis -?\d+ is not in valid range",  # CumSum, Squeeze, Unsqueeze, reductions
            r"k argument \[\d+\] should not be greater",  # TopK
            "value of k must not be negative",
            r"Invalid value in 'split' input",  # Split
            "Invalid sequence length",  # ReverseSequence
            "exceeds max_sequence_length",  # TensorScatter
            "Scale value should be greater than 0",  # Resize
            "dft_length must be greater than zero",  # DFT
            r"All '\w+' values must be positive",  # Col2Im
            r"size\[\d\] \(\w=-?\d+\) must be positive",  # AffineGrid
        ]
    )
)
"""What kernels say of values without calling it an invalid argument. A model that has such values of its own fails for
every request, so that admission refuses it; in an admitted model they are caused by a request."""

_NEW_OPSET = re.compile(r"Opset (\d+) is under development.* for domain (\S+) is till opset (\d+)", re.DOTALL)
_NO_OPERATOR = re.compile(r"Fatal error: (\S+?):(\w+)\(-?\d+\) is not a registered function/op")
_EXTENSIONS = "ai.onnx.contrib"
"""The domain of the operators of onnxruntime-extensions."""

_NO_LOCALE = re.compile(r"construct locale with name:\s*([\w.@-]+?)(?=[:\s]|$)")


_NOT_ACCELERATED = "fallback to CPU EP has been explicitly disabled"


class LoadFailed(Fault):
    """A model file that cannot be served; the text says why, for the model's owner."""

    kind = "invalid"


def load_fault(error: Exception, path: Path | None = None, has_extensions: bool = False) -> LoadFailed:
    """Return the error of opening the graph at ``path``; ``has_extensions``: onnxruntime-extensions was loaded."""
    text = _find_advice(str(error), has_extensions) or plain_text(error, path)
    sentence = f"the graph cannot be loaded: {text}" if text else "the graph cannot be loaded by ONNX Runtime"
    return LoadFailed(sentence, _add_detail(sentence, error))


def _find_advice(text: str, has_extensions: bool) -> str:
    """Return what to do about a known failure, "" for others."""
    if (unknown := _NO_OPERATOR.search(text)) is not None:
        return _unknown_operator(unknown[1], unknown[2], has_extensions)
    if (missing := _NO_LOCALE.search(text)) is not None:
        return (
            f"its texts need the locale {missing[1]}, which this machine lacks; install it (Debian: locales, localedef)"
        )
    if _NOT_ACCELERATED in text:
        return "the execution accelerator does not know all of its operators; leave cpu_execution_accelerator out"
    if (newer := _NEW_OPSET.search(text)) is not None:
        stated, domain, known = newer.groups()
        return f"opset {stated} of {domain} is newer than this ONNX Runtime, which knows {known}; export an older one"
    return ""


def _unknown_operator(domain: str, operator: str, has_extensions: bool) -> str:
    if domain != _EXTENSIONS:
        return f"it uses the operator {operator} of {domain}, which ONNX Runtime does not know; export it without"
    if has_extensions:
        return (
            f"the installed onnxruntime-extensions does not know the operator {operator}; install a version that does"
        )
    return (
        f"its operator {operator} is one of onnxruntime-extensions; pip install 'penstock[extensions]', and put "
        'parameters { key: "extensions" value: { string_value: "true" } } into its config.pbtxt'
    )


def run_fault(error: Exception) -> Fault:
    """Return the error of a run: the caller's if the runtime found its values invalid, else the server's."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, UnicodeDecodeError):
        return Internal("the model gave text that is not UTF-8; a BYTES output must be UTF-8")
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("a BYTES element holds a lone surrogate, which is not valid Unicode")
    text = plain_text(error)
    if _NOT_A_NUMBER.search(str(error).strip()):
        sentence = "a BYTES element is not a number, but the model needs one"
        return InvalidInput(sentence, _add_detail(sentence, error))
    if _EMPTY.search(str(error)):
        sentence = "the model cannot take these shapes: an operator of its graph got a dimension of size 0"
        return InvalidInput(sentence, _add_detail(sentence, error))
    if _TOO_MANY.search(str(error)):
        sentence = (
            f"the request's values ask an operator of the model for over {MOST_ELEMENTS} elements; send smaller values"
        )
        return TooLarge(sentence, _add_detail(sentence, error))
    if _ZERO_DIVISOR.search(str(error)):
        sentence = "the model cannot take these values: a divisor is 0"
        return InvalidInput(sentence, _add_detail(sentence, error))
    if isinstance(error, InvalidArgument) or _BAD_VALUES.search(text):
        sentence = f"the model cannot take these values: {text or 'invalid argument'}"
        return InvalidInput(sentence, _add_detail(sentence, error))
    sentence = f"the model failed at run time: {text}" if text else "the model failed at run time"
    return Internal(sentence, _add_detail(sentence, error))


def _add_detail(sentence: str, error: Exception) -> str:
    """Return the sentence with the full text of the error, if that is longer."""
    text = full_text(error)
    return f"{sentence} ({text})" if text and text not in sentence else ""


def full_text(error: Exception) -> str:
    """Return the full text of an error, on one line and of bounded length."""
    return " ".join(str(error).split())[:LONGEST_DETAIL]


def plain_text(error: Exception, path: Path | None = None) -> str:
    """Return the text of an error without paths, file names or source positions; "" if nothing is left. The error may
    name the folder of ``path``, which may contain spaces; any other path ends at a space.

    ``path`` is a file whose folder the error may name; it may hold spaces, which end any other path.
    """
    text = full_text(error)
    if path is not None:
        text = text.replace(f"{path.parent}/", "/")
    for pattern, instead in (
        (_CODE, ""),
        (_LOADING, ""),
        (_RUNNING, r"\1: "),
        (_STATUS, ""),
        (_SOURCE, ""),
    ):
        text = pattern.sub(instead, text)
    return without_paths(text)[:LONGEST_TEXT]
