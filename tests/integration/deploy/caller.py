"""A caller that asks for one prediction after the other over one connection, until its standard input ends.

``python -m tests.integration.deploy.caller FILE URL CA TOKEN`` keeps its counts in FILE: the good answers, and what
happened in place of one.
"""

import json
import ssl
import sys
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

ROW = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}


def call(connection: HTTPSConnection, path: str, token: str) -> str:
    """One call; "" if it had a good answer, else what happened."""
    try:
        connection.request("POST", path, json.dumps(ROW), {"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        return "" if answer.status == 200 else f"{answer.status} {body[:200]!r}"
    except (OSError, HTTPException) as error:
        connection.close()
        return repr(error)


def main(file: Path, url: str, authority: str, token: str) -> None:
    """Call until the input ends."""
    ended = Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    Thread(target=wait_for_end, daemon=True).start()
    parts = urlsplit(url)
    connection = HTTPSConnection(parts.netloc, context=ssl.create_default_context(cafile=authority), timeout=60)
    good, bad = 0, list[str]()
    while not ended.wait(0.03):
        problem = call(connection, parts.path, token)
        good += not problem
        bad += [problem] if problem else []
        new = file.with_suffix(".new")
        new.write_text(json.dumps({"good": good, "bad": bad}))
        new.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]).read_text().strip())
