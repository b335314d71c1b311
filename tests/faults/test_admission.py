"""Foreign models: whatever one does to the process that examines it, there is a verdict with a reason, and soon."""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.engine.confinement.confine import SandboxedProgram, confine_sandbox
from penstock.engine.confinement.landlock import AllowedPaths, landlock_abi
from penstock.engine.confinement.limits import ResourceLimits
from penstock.registry.admission.examiner import AdmissionOptions, Examiner
from penstock.registry.admission.row_proof import RULES
from penstock.registry.records import AdmissionReport, ExaminedContent
from tests import zoo
from tests.harness import PATIENCE_S, wait_until
from tests.mutants import mutants

QUICK = AdmissionOptions()
PATIENT = AdmissionOptions(seconds=60)  # for whatever ends by itself, on a machine however busy
T = TypeVar("T")

BAIT = b"bait: nobody may read this" * 40


def examined(*subjects: ExaminedContent, options: AdmissionOptions = PATIENT) -> list[AdmissionReport]:
    async def work(examiner: Examiner) -> list[AdmissionReport]:
        return list(await asyncio.gather(*map(examiner.examine, subjects)))

    return with_examiner(work, options)


def with_examiner(work: Callable[[Examiner], Awaitable[T]], options: AdmissionOptions = PATIENT) -> T:
    async def run() -> T:
        examiner = Examiner(options)
        try:
            return await work(examiner)
        finally:
            await examiner.close()

    return asyncio.run(run())


def saved(path: Path, model: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def with_weights(location: str, length: int = 16, offset: int | None = None) -> onnx.ModelProto:
    """``y = x + w`` whose ``w`` lies in another file."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], bytes(16), raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "length": str(length)} | ({} if offset is None else {"offset": str(offset)})
    for key, value in entries.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_good_model_is_described(tmp_path: Path) -> None:
    (report,) = examined(ExaminedContent(saved(tmp_path / "m.onnx", zoo.mlp())))
    assert report.admitted, report.reason
    facts = report.facts
    assert facts["ops"]["Gemm"] >= 1
    assert facts["opset"][""] >= 17
    assert facts["signature"]["inputs"][0]["datatype"] == "FP32"
    assert facts["memory_bytes"] > 300_000  # the weights alone
    assert facts["p50_us"] > 0
    assert [case["inputs"] for case in facts["probes"]["cases"]] == [
        "zeros",
        "random numbers, rows: 1",
        "random numbers, rows: 3",
    ]
    assert all(case["deterministic"] for case in facts["probes"]["cases"])
    assert facts["runtime"].startswith("onnxruntime ")
    assert facts["independent_rows"] == {
        "rules": RULES,
        "proven": True,
        "reason": "",
        "operator": "",
        "node": "",
        "rows_vary": False,
    }


def test_the_node_at_which_a_proof_ended_is_reported_whatever_its_name(tmp_path: Path) -> None:
    nonzero = zoo.nonzero()
    nonzero.graph.node[0].name = "/a\x1b[2J/" + "long" * 1000
    (report,) = examined(ExaminedContent(saved(tmp_path / "m.onnx", nonzero)))
    found = report.facts["independent_rows"]
    assert not found["proven"]
    assert found["reason"] == "operator NonZero has a result whose shape depends on the data"
    assert found["node"].startswith("/a\ufffd[2J/long")
    assert len(found["node"]) < 100


@pytest.mark.parametrize("build", [zoo.mixed, zoo.gather, zoo.classifier, zoo.nonzero, lambda: zoo.looping(None)])
def test_models_of_every_kind_are_admitted(tmp_path: Path, build: Callable[[], onnx.ModelProto]) -> None:
    (report,) = examined(ExaminedContent(saved(tmp_path / "m.onnx", build())))
    assert report.admitted, report.reason


def shapeless(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A graph that states neither the shape of ``x`` nor that of ``y``."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("dims", "reshape", "shape"),
    [([-1, 4], None, [-1, 4]), ([1], [], [1]), ([2, 2], [4], [2, 2])],
)
def test_shapes_that_only_the_configuration_states(
    tmp_path: Path, dims: list[int], reshape: list[int] | None, shape: list[int]
) -> None:
    stated: dict[str, object] = {"name": "x", "data_type": "TYPE_FP32", "dims": dims}
    if reshape is not None:
        stated["reshape"] = {"shape": reshape}
    config = json.dumps({"input": [stated], "output": [{**stated, "name": "y"}]})
    graph = saved(tmp_path / "m.onnx", shapeless([helper.make_node("Relu", ["x"], ["y"])]))
    alone, stated_so = examined(ExaminedContent(graph), ExaminedContent(graph, config))
    assert "no shape for input 'x'" in alone.reason
    assert stated_so.admitted, stated_so.reason
    assert [item["shape"] for side in stated_so.facts["signature"].values() for item in side] == [shape, shape]


def test_a_shape_that_nobody_states_is_the_answers(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    custom = helper.make_node("Compress", ["x", "all"], ["y"])  # of one axis, as no axis is stated
    keep = numpy_helper.from_array(np.array([True, False, True]), "all")
    graph = helper.make_graph([custom], "g", values, [result], [keep])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (report,) = examined(ExaminedContent(saved(tmp_path / "m.onnx", model)))
    assert report.admitted, report.reason
    assert report.facts["signature"]["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1]}]


def test_a_folder_without_models_is_not_an_outage(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(os.urandom(3000))
    (tmp_path / "empty").write_bytes(b"")
    for report in examined(ExaminedContent(tmp_path / "junk"), ExaminedContent(tmp_path / "empty")):
        assert report.reason == "it is not an ONNX graph"


def endless() -> onnx.ModelProto:
    """A loop whose condition never becomes false."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, [1])],
        [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, [1])],
    )
    true = numpy_helper.from_array(np.array(True), "true")
    nodes = [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)]
    values = [info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [true])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def filling(elements: int) -> onnx.ModelProto:
    """Fills so much memory with a constant."""
    info = helper.make_tensor_value_info
    size = numpy_helper.from_array(np.array([elements], np.int64), "size")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["filled"]),
        helper.make_node("ReduceSum", ["filled"], ["all"], keepdims=0),
        helper.make_node("Add", ["x", "all"], ["y"]),
    ]
    values = [info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [size])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_model_that_never_ends_is_refused_in_time(tmp_path: Path) -> None:
    (report,) = examined(ExaminedContent(saved(tmp_path / "m.onnx", endless())), options=AdmissionOptions(seconds=1))
    assert "did not finish within 1 s" in report.reason
    assert "admission.seconds" in report.reason


def test_a_model_that_takes_all_memory_is_refused(tmp_path: Path) -> None:
    (report,) = examined(ExaminedContent(saved(tmp_path / "m.onnx", filling(1 << 40))))
    assert not report.admitted
    assert str(tmp_path) not in report.reason


def test_a_crash_is_a_verdict_and_the_next_one_is_examined_as_ever(tmp_path: Path) -> None:
    good = ExaminedContent(saved(tmp_path / "good.onnx", zoo.logistic()))

    async def work(examiner: Examiner) -> None:
        assert (await examiner.examine(good)).admitted
        sandbox = examiner._sandbox
        assert sandbox is not None
        sandbox._process.kill()
        assert (await examiner.examine(good)).admitted

    with_examiner(work)


def attack(name: str, workspace: Path) -> tuple[onnx.ModelProto, Path]:
    """A model that reaches for the bait in its own way, and its folder."""
    folder, bait = workspace / "model", workspace / "bait"
    folder.mkdir()
    bait.write_bytes(BAIT)
    location, target = "w.bin", folder / "w.bin"
    match name:
        case "up":
            location = "../bait"
        case "nested up":
            (folder / "deep").mkdir()
            location = "deep/../../bait"
        case "absolute":
            location = str(bait)
        case "symbolic link":
            target.symlink_to(bait)
        case "linked folder":
            (folder / "deep").symlink_to(workspace)
            location = "deep/bait"
        case "hard link":
            target.hardlink_to(bait)
        case "pipe":
            os.mkfifo(target)
        case "device":
            target.symlink_to("/dev/zero")
        case "missing":
            pass
        case "too short":
            target.write_bytes(bytes(8))
        case "backslash":
            location = "..\\bait"
    return with_weights(location), folder


REASONS = {
    "up": "outside of its folder",
    "nested up": "outside of its folder",
    "absolute": "outside of its folder",
    "symbolic link": "by a link",
    "linked folder": "by a link",
    "hard link": "a hard link",
    "pipe": "not a regular file",
    "device": "by a link",
    "missing": "not there",
    "too short": "beyond the end",
    "backslash": "outside of its folder",
}


@pytest.mark.parametrize("name", REASONS)
def test_a_planted_file_is_never_read(tmp_path: Path, name: str) -> None:
    model, folder = attack(name, tmp_path)
    bait = tmp_path / "bait"
    os.utime(bait, (1, 1))  # an access time this old is renewed by any read, whatever the mount says
    graph = saved(folder / "model.onnx", model)
    (report,) = examined(ExaminedContent(graph, weights=folder))
    assert REASONS[name] in report.reason
    assert str(tmp_path) not in report.reason
    assert bait.stat().st_atime == 1
    if name == "hard link":
        bait.unlink()


def test_weights_beside_the_graph_are_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    graph = saved(tmp_path / "model.onnx", with_weights("deep/w.bin", offset=16))
    alone, beside = examined(ExaminedContent(graph), ExaminedContent(graph, weights=tmp_path))
    assert "push them with it" in alone.reason
    assert beside.admitted, beside.reason
    assert beside.facts["probes"]["cases"][0]["outputs"][0]["sample"] == [4.0, 5.0, 6.0, 7.0]


@pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")
def test_a_confined_process_can_neither_read_nor_write_nor_call_out(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text("mine")
    (tmp_path / "other").write_text("not mine")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:  # the child answers with what it could do
            confine_sandbox(SandboxedProgram(AllowedPaths((tmp_path / "own",)), ResourceLimits(1 << 30, 5)))
            done = []
            attempts: dict[str, Callable[[], object]] = {
                "own": (tmp_path / "own" / "file").read_text,
                "other": (tmp_path / "other").read_text,
                "passwd": Path("/etc/passwd").read_bytes,
                "write": lambda: (tmp_path / "own" / "new").write_text("x"),
                "exec": lambda: os.execv("/bin/true", ["true"]),
                "connect": lambda: socket.create_connection(("127.0.0.1", port), 1),
            }
            for name, attempt in attempts.items():
                try:
                    attempt()
                    done.append(name)
                except OSError:
                    continue
            os.write(writing, ",".join(done).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(writing)
        assert os.read(reading, 1000) == b"own"
        os.close(reading)


def survived(workspace: Path, count: int, seed: int) -> tuple[int, int]:
    """Examine so many broken graphs; how many were admitted, and how many crashed."""
    originals = [zoo.mlp(), zoo.logistic(), zoo.classifier(), zoo.mixed(), zoo.looping(3), zoo.gather()]
    paths = []
    for index, data in enumerate(mutants(originals, count, seed)):
        paths.append(workspace / f"{index}.onnx")
        paths[-1].write_bytes(data)

    async def work(examiner: Examiner) -> tuple[int, int]:
        workspace = asyncio.Semaphore(2)

        async def one(path: Path) -> AdmissionReport:
            async with workspace, asyncio.timeout(PATIENCE_S):
                return await examiner.examine(ExaminedContent(path))

        reports = await asyncio.gather(*map(one, paths))
        assert all(str(workspace) not in report.reason for report in reports)
        admitted = sum(report.admitted for report in reports)
        return admitted, sum("crashed" in report.reason for report in reports)

    return with_examiner(work, QUICK)


def test_broken_graphs_get_their_verdict(tmp_path: Path) -> None:
    admitted, _ = survived(tmp_path, 150, seed=20261120)
    assert 0 < admitted < 150  # some changes leave a model that works


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_broken_graphs_get_their_verdict(tmp_path: Path) -> None:
    admitted, crashed = survived(tmp_path, 2000, seed=7)
    assert 0 < admitted < 2000, (admitted, crashed)


def test_an_examiner_that_is_released_ends_its_process_and_starts_another_when_it_is_needed(tmp_path: Path) -> None:
    subject = ExaminedContent(saved(tmp_path / "m.onnx", zoo.mlp()))
    before = children()

    async def work(examiner: Examiner) -> list[AdmissionReport]:
        examiner.release()  # before there is one
        first = await examiner.examine(subject)
        assert children() != before
        examiner.release()
        await asyncio.to_thread(wait_until, lambda: children() == before, PATIENCE_S, "the end of the process")
        return [first, await examiner.examine(subject)]

    assert all(report.admitted for report in with_examiner(work))


def children() -> set[str]:
    """The processes that this one has started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
