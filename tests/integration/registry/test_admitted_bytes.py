"""What serves is what was admitted: changes of files in place or by name never reach a running model or a new session
unseen."""

import hashlib
import os
from pathlib import Path

import numpy as np

from tests import harness
from tests.faults.test_admission import with_weights
from tests.harness import PATIENCE_S, Server, wait_until

STILL = {"PENSTOCK_WATCH__SETTLE_SECONDS": "0", "PENSTOCK_WATCH__SECONDS": "0.1"}


def weights(number: float) -> bytes:
    return np.full(4, number, np.float32).tobytes()


def place_flat(models: Path, number: float) -> Path:
    """A flat graph with weights beside it under another name."""
    models.mkdir()
    (models / "w.bin").write_bytes(weights(number))
    (models / "flat.onnx").write_bytes(with_weights("w.bin").SerializeToString())
    return models / "w.bin"


def answer(server: Server, model: str) -> float:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}
    reply = server.rest("POST", f"/v2/models/{model}/infer", body)
    assert reply.status == 200, reply
    return float(reply.json()["outputs"][0]["data"][0])


def digest(server: Server, model: str) -> str:
    (version,) = server.admin("GET", f"/admin/v1/models/{model}").json()["versions"]
    return str(version["digest"])


def overwrite_unnoticed(path: Path, data: bytes) -> None:
    """Change bytes in place, and set the times back."""
    facts = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_weights_that_are_changed_in_place_do_not_reach_a_running_model(tmp_path: Path) -> None:
    file = place_flat(tmp_path / "models", 1.0)
    with harness.running(tmp_path / "models", tmp_path, env=STILL) as server:
        assert answer(server, "flat") == 1.0
        before = digest(server, "flat")
        overwrite_unnoticed(file, weights(99.0))
        assert {answer(server, "flat") for _ in range(20)} == {1.0}
        server.kill_worker()  # a new session is made from the admitted bytes too
        wait_until(server.is_ready, PATIENCE_S, "the new worker")
        assert answer(server, "flat") == 1.0
        assert digest(server, "flat") == before
        os.utime(file)  # now the change can be seen, and is admitted as a content of its own
        wait_until(lambda: answer(server, "flat") == 99.0, PATIENCE_S, "the new weights")
        assert digest(server, "flat") != before


def test_weights_under_another_name_are_part_of_the_digest(tmp_path: Path) -> None:
    for number in (1.0, 2.0):
        place_flat(tmp_path / f"models{number}", number)
    digests = set()
    for number in (1.0, 2.0):
        folder = tmp_path / f"run{number}"
        with harness.running(tmp_path / f"models{number}", folder, env=STILL) as server:
            digests.add(digest(server, "flat"))
    graph = hashlib.sha256(with_weights("w.bin").SerializeToString()).hexdigest()
    assert len(digests) == 2
    assert f"sha256:{graph}" not in digests


def test_where_the_home_cannot_be_written_copies_go_to_the_temporary_folder(tmp_path: Path) -> None:
    file = place_flat(tmp_path / "models", 1.0)
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    (home / "copies").write_text("no folder can be made here")
    env = {**STILL, "TMPDIR": str(temporary)}
    with harness.running(tmp_path / "models", tmp_path, env=env) as server:
        assert answer(server, "flat") == 1.0
        assert "the home cannot be written; models are copied to" in server.log_text()
        overwrite_unnoticed(file, weights(99.0))
        assert answer(server, "flat") == 1.0
    (copies,) = temporary.glob("penstock-copies-*")
    assert copies.stat().st_mode & 0o077 == 0
