"""Runs rows through a gateway: V2 requests in binary form, marked as batch work, with retries where it is busy."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from penstock.core.errors import Conflict, Fault, Internal, InvalidInput, NotFound, NotReady, Unauthorised
from penstock.core.frames.terms import ROWS, RowTerms, decode_terms
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor, bytes_to_raw

TRIES: Final = 8
LONGEST_PAUSE_S: Final = 5.0
"""Tries of a request while the gateway is busy or away, and the longest pause between two."""

_MARKS: Final = {"penstock-source": "batch", "penstock-class": "batch"}
_HEAD_LENGTH: Final = "inference-header-content-length"
_BUSY: Final = (429, 502, 503)
_FAULTS: Final[Mapping[int, type[Fault]]] = {
    400: InvalidInput,
    401: Unauthorised,
    403: Unauthorised,
    404: NotFound,
    413: InvalidInput,
}

Document = dict[str, Any]
Connect = Callable[[], HTTPConnection]
"""Opens a connection of its own to the gateway, with the caller's credential."""


class GatewayRunner:
    """One version behind a gateway; see ``ScoringRunner``. Any thread may call it: each has a connection of its own.

    The version is chosen once, so that all rows are answered by the same, whatever the route does meanwhile.
    """

    def __init__(
        self, connect: Connect, model: str, selector: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Ask the gateway for the version, its signature and what names its rows.

        Raises:
            NotFound: there is no such version.
            InvalidInput: nothing says which of several versions to use.
            NotReady: the gateway does not answer.
        """
        self._connect = connect
        self._sleep = sleep
        self._local = threading.local()
        self._opened: list[HTTPConnection] = []
        self.model = model
        self.version = self._version_of(selector)
        self._path = f"{_make_path(model)}/versions/{quote(self.version, safe='')}"
        metadata = self._get(self._path)
        self.signature, self.terms = parse_signature(metadata), terms_of(metadata)
        most = int(self._get(f"{self._path}/config").get("max_batch_size", 0))
        self._most = most if most > 1 else 0

    def close(self) -> None:
        """Close the connections of all threads, which have ended."""
        for connection in self._opened:
            connection.close()

    def _version_of(self, selector: str) -> str:
        path = _make_path(self.model) + (f"/versions/{quote(selector, safe='')}" if selector else "")
        found = [str(item["version"]) for item in self._get(f"{path}/stats")["model_stats"]]
        if len(found) != 1:
            raise InvalidInput(f"the gateway serves {len(found)} versions of it; state one, as in {self.model}:VERSION")
        return found[0]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See ``ScoringRunner``."""
        rows = len(inputs[0].data)
        if not self._most or rows <= self._most:
            return self._infer(inputs)
        parts = [self._infer(_slice_rows(inputs, start, self._most)) for start in range(0, rows, self._most)]
        return [
            Tensor(same[0].name, same[0].datatype, np.concatenate([tensor.data for tensor in same]))
            for same in zip(*parts, strict=True)
        ]

    def _infer(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        body, head = encode_request(inputs)
        headers = {**_MARKS, "content-type": "application/octet-stream", _HEAD_LENGTH: str(head)}
        fields, answer = self._call("POST", f"{self._path}/infer", body, headers)
        if fields.get("penstock-model-version", self.version) != self.version:
            raise Conflict("the gateway answered with another version than was asked for")
        return decode_answer(answer, int(fields.get(_HEAD_LENGTH, len(answer))), self.signature)

    def _get(self, path: str) -> Document:
        document: Document = json.loads(self._call("GET", path, None, {})[1])
        return document

    def _call(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], bytes]:
        """Return the header and body of an answer; a busy gateway, or one that is away, is tried again."""
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                self._sleep(min(LONGEST_PAUSE_S, 0.1 * 2**attempt))
            try:
                status, fields, answer = self._exchange(method, path, body, headers)
            except (OSError, HTTPException) as error:
                self._drop()
                problem = f"the gateway does not answer: {str(error) or type(error).__name__}"
                continue
            if status in _BUSY:
                problem = _error_text(answer, status)
                continue
            if status != 200:
                raise _FAULTS.get(status, Internal)(_error_text(answer, status))
            return fields, answer
        raise NotReady(problem)

    def _drop(self) -> None:
        """Close the connection of this thread; the next request opens another."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._opened.remove(connection)
        self._local.connection = None

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._opened.append(connection)
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def _make_path(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}"


def _slice_rows(tensors: Sequence[Tensor], start: int, rows: int) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.data[start : start + rows]) for tensor in tensors]


def _error_text(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered with status {status}"


def parse_signature(metadata: Mapping[str, Any]) -> Signature:
    """Return the signature in the metadata of a model (V2).

    Raises:
        InvalidInput: it is no such document.
    """
    try:
        inputs, outputs = ([_read_spec(item) for item in metadata[side]] for side in ("inputs", "outputs"))
    except (KeyError, TypeError, ValueError):
        raise InvalidInput("the gateway does not describe the model; is its address that of a data port?") from None
    batching = bool(inputs) and all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs))
    return Signature(inputs, outputs, batching)


def terms_of(metadata: Mapping[str, Any]) -> RowTerms:
    """Return what the metadata of a model (V2) say of its rows: names of features, and defaults."""
    properties = metadata.get("properties")
    stated = properties.get(ROWS) if isinstance(properties, Mapping) else None
    return decode_terms(stated if isinstance(stated, str) else "")


def _read_spec(item: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(str(item["name"]), str(item["datatype"]), tuple(int(dim) for dim in item["shape"]))


def encode_request(inputs: Sequence[Tensor]) -> tuple[bytes, int]:
    """Return the body of a request with its tensors as raw bytes, and the length of its JSON part."""
    parts = [_encode_tensor(tensor) for tensor in inputs]
    described = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.data.shape,
            "parameters": {"binary_data_size": len(part)},
        }
        for tensor, part in zip(inputs, parts, strict=True)
    ]
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    return b"".join((head, *parts)), len(head)


def _encode_tensor(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return bytes_to_raw(tensor.data)
    return np.ascontiguousarray(tensor.data).tobytes()


def decode_answer(body: bytes, head_length: int, signature: Signature) -> list[Tensor]:
    """Return the outputs in an answer, in the order of the signature.

    Raises:
        Internal: it is not an answer with binary tensors.
    """
    try:
        found, at = {}, head_length
        for item in json.loads(body[:head_length])["outputs"]:
            size = int(item["parameters"]["binary_data_size"])
            found[item["name"]] = _decode_tensor(item, body[at : at + size])
            at += size
        return [found[spec.name] for spec in signature.outputs]
    except (KeyError, TypeError, ValueError):
        raise Internal("the gateway's answer is not in the binary form of the protocol") from None


def _decode_tensor(item: Mapping[str, Any], raw: bytes) -> Tensor:
    name, datatype, shape = item["name"], item["datatype"], item["shape"]
    data: Array = (
        _decode_texts(raw, shape) if datatype == "BYTES" else np.frombuffer(raw, NUMPY_TYPES[datatype]).reshape(shape)
    )
    return Tensor(name, datatype, data)


def _decode_texts(raw: bytes, shape: Sequence[int]) -> Array:
    """Return the elements of a BYTES tensor: each has its length (4 bytes, little-endian) before it."""
    items, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        items.append(raw[at + 4 : end].decode(errors="replace"))
        at = end
    texts = np.empty(len(items), object)
    texts[:] = items
    return texts.reshape(shape)
