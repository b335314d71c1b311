"""Finds one captured request by its id, and writes it as a V2 request again."""

import io
import json
from collections.abc import Iterator, Mapping
from math import isnan
from pathlib import Path
from typing import Any, Final

from penstock.core.errors import NotFound, Refused, TooLarge, Unsupported
from penstock.core.tensors import Array
from penstock.monitor.answers import prefix_of
from penstock.monitor.capture import CapturedRequest, read_records, segments_of

MOST_SEARCHED_BYTES: Final = 512 << 20
"""Bytes of the newest segments that are searched for one request."""


def find_captured(folder: Path, model: str, version: str, request_id: str) -> tuple[str, CapturedRequest]:
    """Return a captured request and the version that answered it, the newest with this id; ``version`` "" is any.

    Raises:
        NotFound: no captured request has this id.
        TooLarge: there are more captures than are searched.
    """
    needle = json.dumps(request_id).encode()
    searched = 0
    for answered, path in _newest_first(folder, model, version):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # deleted meanwhile
            continue
        searched += len(content)
        if searched > MOST_SEARCHED_BYTES:
            raise TooLarge("the newest captured requests do not have this id; export them to search all of them")
        if needle in content:
            found = [record for record, _ in read_records(io.BytesIO(content)) if record.id == request_id]
            if found:
                return answered, found[-1]
    raise NotFound("no request with this id is captured at this gateway; the policy setting capture.sample keeps some")


def _newest_first(folder: Path, model: str, version: str) -> Iterator[tuple[str, Path]]:
    """Yield the segments of a model's versions, newest first."""
    found = [
        (answered, path)
        for (_, answered), paths in segments_of(folder, prefix_of(model)).items()
        for path in paths
        if version in ("", answered)
    ]
    yield from sorted(found, key=lambda item: item[1].name.rsplit("@", 1)[1], reverse=True)


def request_document(record: CapturedRequest, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a captured request as a V2 document with these parameters.

    Raises:
        Refused: its values were masked when it was captured.
        Unsupported: an input has no form in JSON.
    """
    if "inputs" in record.head.get("masked", ()):
        raise Refused("values of this request were masked when it was captured, so it cannot be explained")
    arrays = record.arrays()["inputs"]
    entries = [entry for entry in record.head["tensors"] if entry["side"] == "inputs"]
    inputs = [_input_document(entry, arrays[entry["name"]]) for entry in entries]
    return {"id": record.id, "parameters": dict(parameters), "inputs": inputs}


def _input_document(entry: Mapping[str, Any], array: Array) -> dict[str, Any]:
    if entry["datatype"] in ("FP16", "BF16"):
        raise Unsupported(f"input '{entry['name']}' is of {entry['datatype']}, which has no form in JSON")
    values = [None if isinstance(value, float) and isnan(value) else value for value in array.ravel().tolist()]
    return {"name": entry["name"], "datatype": entry["datatype"], "shape": entry["shape"], "data": values}
