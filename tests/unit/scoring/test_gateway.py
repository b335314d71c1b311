"""Requests to a gateway and its answers, and what is tried again."""

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import Conflict, Fault, Internal, InvalidInput, NotFound, NotReady
from penstock.core.frames.terms import NO_TERMS, RowTerms, encode_terms
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor
from penstock.scoring.command import ScoreRequest, run_by_gateway
from penstock.scoring.gateway import TRIES, GatewayRunner, decode_answer, encode_request, parse_signature, terms_of

METADATA = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}, {"name": "t", "datatype": "BYTES", "shape": [-1]}],
    "properties": {"rows": encode_terms(RowTerms(("a", "b"), {"b": 3.0}))},
}
X = Tensor("x", "FP32", np.arange(6, dtype=np.float32).reshape(3, 2))
TEXTS = np.array(["a", "", "ä"], object)


def answer(rows: int, version: str = "2") -> tuple[int, dict[str, str], bytes]:
    """The answer to so many rows, as another encoder writes it."""
    y = np.arange(rows, dtype=np.float32).tobytes()
    texts = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in TEXTS[:rows])
    outputs = [
        {"name": "t", "datatype": "BYTES", "shape": [rows], "parameters": {"binary_data_size": len(texts)}},
        {"name": "y", "datatype": "FP32", "shape": [rows, 1], "parameters": {"binary_data_size": len(y)}},
    ]
    head = json.dumps({"outputs": outputs}).encode()
    return 200, {"Inference-Header-Content-Length": str(len(head)), "penstock-model-version": version}, head + texts + y


class _Answer:
    def __init__(self, status: int, fields: Mapping[str, str], body: bytes) -> None:
        self.status, self._fields, self._body = status, fields, body

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self._fields.items())

    def read(self) -> bytes:
        return self._body


class _Connection(HTTPConnection):
    """Answers about a model as a gateway does, and to rows by a script."""

    def __init__(self, script: Iterator[Any], versions: int = 1, most: int = 0) -> None:
        super().__init__("nowhere.invalid")
        self.script, self.versions, self.most = script, versions, most
        self.sent: list[tuple[str, bytes, Mapping[str, str]]] = []
        self._next: _Answer | None = None

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **_: Any) -> None:
        documents = {
            "stats": {"model_stats": [{"version": str(2 + number)} for number in range(self.versions)]},
            "config": {"max_batch_size": self.most},
            "2": METADATA,
        }
        if method == "GET":
            self._next = _Answer(200, {}, json.dumps(documents[url.rpartition("/")[2]]).encode())
            return
        self.sent.append((url, body, headers))
        step = next(self.script)
        if isinstance(step, Exception):
            raise step
        self._next = _Answer(*step)

    def getresponse(self) -> Any:
        return self._next


def runner(*script: Any, **options: int) -> tuple[GatewayRunner, _Connection, list[float]]:
    connection, pauses = _Connection(iter(script), **options), list[float]()
    return GatewayRunner(lambda: connection, "m", "@champion".removeprefix("@"), pauses.append), connection, pauses


def test_rows_go_to_one_version_as_marked_batch_work() -> None:
    gateway, connection, _ = runner(answer(3))
    assert (gateway.version, gateway.signature.batching) == ("2", True)
    y, texts = gateway.run([X])
    assert (y.name, y.data.ravel().tolist(), texts.data.tolist()) == ("y", [0, 1, 2], ["a", "", "ä"])
    [(url, body, headers)] = connection.sent
    assert url == "/v2/models/m/versions/2/infer"
    assert {"penstock-source": "batch", "penstock-class": "batch"}.items() <= headers.items()
    head = json.loads(body[: int(headers["inference-header-content-length"])])
    assert head["inputs"][0]["shape"] == [3, 2]
    assert body.endswith(X.data.tobytes())


def test_columns_have_the_names_and_defaults_that_the_gateway_states(tmp_path: Path) -> None:
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("b,id,a\n2,x,1\n,y,4\n")
    connection = _Connection(iter([answer(2)]))
    run_by_gateway(ScoreRequest("m", "2", source, result), lambda: connection, "there", lambda _, __: None)
    [(_, body, _)] = connection.sent
    assert body.endswith(np.array([[1, 2], [4, 3]], np.float32).tobytes())
    assert terms_of({"properties": None}) == terms_of({"properties": {"rows": 1}}) == NO_TERMS


def test_a_batch_is_divided_where_the_model_asks_for_it() -> None:
    gateway, connection, _ = runner(answer(2), answer(1), most=2)
    y, texts = gateway.run([X])
    assert len(connection.sent) == 2
    assert (y.data.ravel().tolist(), texts.data.tolist()) == ([0, 1, 0], ["a", "", "a"])


def test_a_busy_gateway_is_asked_again() -> None:
    busy: Any = (429, {}, b'{"error": "too many"}')
    gateway, _, pauses = runner(busy, ConnectionResetError("reset"), answer(3))
    assert len(gateway.run([X])) == 2
    assert pauses == sorted(pauses)
    assert len(pauses) == 2
    gateway, _, pauses = runner(*[busy] * TRIES)
    with pytest.raises(NotReady, match="too many"):
        gateway.run([X])


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ((400, {}, b'{"error": "row 1 is wrong"}'), InvalidInput),
        ((404, {}, b"no json"), NotFound),
        ((500, {}, b"{}"), Internal),
        (answer(3, version="9"), Conflict),
        ((200, {}, b"{}"), Internal),
    ],
)
def test_other_answers_are_faults(step: Any, fault: type[Fault]) -> None:
    gateway, _, _ = runner(step)
    with pytest.raises(fault):
        gateway.run([X])


def test_one_version_must_be_meant() -> None:
    with pytest.raises(InvalidInput, match="2 versions"):
        runner(versions=2)


def test_texts_and_numbers_are_sent_as_bytes() -> None:
    body, head = encode_request([Tensor("t", "BYTES", TEXTS), X])
    assert body[head:].startswith(b"\x01\x00\x00\x00a\x00\x00\x00\x00\x02\x00\x00\x00\xc3\xa4")


def test_a_tree_without_a_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="data port"):
        parse_signature({"name": "something else"})
    single = Signature([TensorSpec("x", "FP32", (2,))], [])
    assert not parse_signature({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}], "outputs": []}).batching
    with pytest.raises(Internal, match="binary form"):
        decode_answer(b"{}", 2, single)
