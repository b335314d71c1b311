"""Sinks against a server that writes down what it gets: the calls of each kind, refusals, secrets, files, commands."""

import base64
import errno
import hashlib
import hmac
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.control.sinks import NotStarted, SinkContext, SinkFault, command, nats, plugins
from penstock.control.sinks.base import RunningCommands
from penstock.control.sinks.command import OUTPUT_MOST, OutputTail
from penstock.control.sinks.http_post import retry_after
from penstock.control.sinks.plugins import load_plugins, may_have_plugins, send
from penstock.control.sinks.secret_store import SecretSource, SecretStore
from penstock.core.addresses import parse_hosts
from penstock.core.secrets import Secret
from penstock.core.sinks import FIELDS, SinkOrigin, SinkSpec
from tests.events import RETRAINING_REQUESTED
from tests.harness import PATIENCE_S, is_alive, wait_until
from tests.integration.traffic.test_retraining import Receiver, receiving

EVENT = RETRAINING_REQUESTED

KEY = "0123456789abcdefghijklmn"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def around(tmp_path: Path) -> SinkContext:
    for name, text in (("token", "t0ken\n"), ("key", f"{KEY}\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return SinkContext(tmp_path, clock=lambda: 1000.5)


def sent(kind: str, around: SinkContext, origin: SinkOrigin = SinkOrigin.OWNER, **values: Any) -> None:
    send(SinkSpec(kind, values, origin), EVENT, around)


def test_a_webhook_is_a_cloudevent_and_signed(hook: Receiver, around: SinkContext) -> None:
    sent("webhook", around, url=f"{hook.url}/a?b=c", secret_file="key")
    path, headers, body = hook.got[0]
    assert (path, json.loads(body)) == ("/a?b=c", EVENT)
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["penstock-signature"] == "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
    signed = hmac.new(KEY.encode(), f"{EVENT['id']}.1000.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-id"] == EVENT["id"]
    assert headers["webhook-timestamp"] == "1000"
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
    sent("webhook", around, url=hook.url, mode="binary")
    _, headers, body = hook.got[1]
    assert json.loads(body) == EVENT["data"]
    reported = {key.removeprefix("ce-"): value for key, value in headers.items() if key.startswith("ce-")}
    assert reported == {key: str(value) for key, value in EVENT.items() if key not in ("data", "datacontenttype")}


def test_airflow_is_asked_by_a_run_id_that_identifies_repeats(hook: Receiver, around: SinkContext) -> None:
    hook.answers = [(200, {}), (409, {})]
    for _ in range(2):
        sent("airflow", around, url=f"{hook.url}/", dag="train m", token_file="token")
    path, headers, body = hook.got[0]
    assert path == "/api/v2/dags/train%20m/dagRuns"
    assert headers["authorization"] == "Bearer t0ken"
    assert json.loads(body) == {"dag_run_id": f"penstock-{'ab' * 16}", "conf": EVENT, "logical_date": None}
    sent("airflow", around, url=hook.url, dag="d", api="v1")
    assert hook.got[1][0] == "/api/v1/dags/d/dagRuns"
    assert "logical_date" not in json.loads(hook.got[1][2])


def test_prefect_github_and_alertmanager_get_their_own_requests(hook: Receiver, around: SinkContext) -> None:
    sent("prefect", around, url=f"{hook.url}/api", deployment="1234")
    sent("github", around, url=hook.url, repository="o/r", token_file="token")
    sent("alertmanager", around, url=hook.url)
    prefect, github, alerts = hook.got
    assert prefect[0] == "/api/deployments/1234/create_flow_run"
    assert json.loads(prefect[2]) == {"parameters": {"event": EVENT}, "idempotency_key": EVENT["id"]}
    assert github[0] == "/repos/o/r/dispatches"
    assert json.loads(github[2]) == {"event_type": EVENT["type"], "client_payload": {"event": EVENT}}
    assert alerts[0] == "/api/v2/alerts"
    [alert] = json.loads(alerts[2])
    assert (alert["labels"]["alertname"], alert["labels"]["model"]) == (EVENT["type"], "m")
    assert alert["startsAt"] == EVENT["time"]


@pytest.mark.parametrize(
    ("answer", "after_s", "final"),
    [
        ((500, {}), 0.0, False),
        ((429, {"retry-after": "7"}), 7.0, False),
        ((429, {"retry-after": "999999999"}), 3600.0, False),
        ((503, {"retry-after": "Fri, 31 Dec 2999 23:59:59 GMT"}), 3600.0, False),
        ((503, {"retry-after": "-7"}), 0.0, False),
        ((503, {"retry-after": "soon"}), 0.0, False),
        ((410, {}), 0.0, True),
        ((302, {"location": "http://127.0.0.1:1/"}), 0.0, False),
        ((409, {}), 0.0, False),
    ],
)
def test_refusals_of_receivers_are_final_or_retried(
    hook: Receiver, around: SinkContext, answer: tuple[int, dict[str, str]], after_s: float, final: bool
) -> None:
    hook.answers = [answer]
    with pytest.raises(SinkFault, match=str(answer[0])) as reported:
        sent("webhook", around, url=hook.url)
    assert (reported.value.after_s, reported.value.final) == (after_s, final)
    assert hook.got == []  # nobody was redirected to


def test_an_unreachable_receiver_and_a_missing_secret_are_faults(around: SinkContext) -> None:
    with pytest.raises(SinkFault, match="does not answer"):
        sent("webhook", around, url="http://127.0.0.1:1/")
    with pytest.raises(SinkFault, match="secret 'nothing' cannot be read"):
        sent("webhook", around, url="http://127.0.0.1:1/", secret_file="nothing")


def test_a_file_gets_a_line_for_each(around: SinkContext) -> None:
    for _ in range(2):
        sent("file", around, path="events/all.jsonl")
    lines = (around.home / "events" / "all.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [EVENT, EVENT]
    with pytest.raises(SinkFault, match="cannot be written"):
        sent("file", around, path="token/nowhere.jsonl")


def test_a_line_that_is_cut_short_spoils_no_other(around: SinkContext, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, workspace = around.home / "all.jsonl", os.write, [7]
    path.write_text('{"torn": ')  # by a process that ended

    def short(file: int, data: bytes) -> int:
        if not workspace[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken, workspace[0] = data[: workspace[0]], max(0, workspace[0] - len(data))
        return write(file, taken)

    with monkeypatch.context() as full:
        full.setattr(os, "write", short)
        with pytest.raises(SinkFault, match="No space left"):
            sent("file", around, path="all.jsonl")
    assert path.read_text() == '{"torn": '
    for _ in range(2):
        sent("file", around, path="all.jsonl")
    assert [json.loads(line) for line in path.read_text().splitlines()[1:]] == [EVENT, EVENT]


@pytest.mark.parametrize("path", ["registry.db", "references/index.json", "sinks", "sinks/../gateway.json", "."])
def test_no_sink_writes_over_the_files_of_the_gateway(around: SinkContext, path: str) -> None:
    with pytest.raises(SinkFault, match="in the gateway's home") as reported:
        sent("file", around, path=path)
    assert reported.value.final


def test_a_file_is_for_its_owner_alone(around: SinkContext) -> None:
    sent("file", around, path="sinks/m/events.log")
    assert (around.home / "sinks" / "m" / "events.log").stat().st_mode & 0o777 == 0o600
    assert (around.home / "sinks" / "m").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "path", ["../elsewhere", "/tmp/elsewhere.jsonl", "events.jsonl", "sinks/../all.jsonl", "sinks/out"]
)
def test_a_sink_of_a_policy_writes_below_one_folder(around: SinkContext, path: str) -> None:
    (around.home / "sinks").mkdir()
    (around.home / "sinks" / "out").symlink_to(around.home / "registry.db")
    with pytest.raises(SinkFault, match="below 'sinks/'") as reported:
        sent("file", around, SinkOrigin.POLICY, path=path)
    assert reported.value.final
    sent("file", around, SinkOrigin.POLICY, path="sinks/inside")
    assert not (around.home / "registry.db").exists()


def test_a_sink_of_a_policy_gives_no_file_as_a_secret(around: SinkContext) -> None:
    context = replace(around, hosts=parse_hosts(["127.0.0.1"]))
    for kind, values in (("webhook", {"secret_file": "key"}), ("argo", {"token_file": "token"})):
        with pytest.raises(SinkFault, match="by name") as reported:
            sent(kind, context, SinkOrigin.POLICY, url="http://127.0.0.1:1", **values)
        assert reported.value.final


def test_a_sink_of_a_policy_reaches_listed_hosts_at_public_or_listed_addresses(
    hook: Receiver, around: SinkContext
) -> None:
    """A closed port, a refused address and a name that is not resolved have the same reason."""
    port, reasons = hook.url.rpartition(":")[2], set()
    by_name = replace(around, hosts=parse_hosts(["localhost", "nothing.invalid"]))
    listed = replace(around, hosts=parse_hosts(["127.0.0.1"]))
    for context, url in (
        (by_name, f"http://localhost:{port}"),
        (by_name, "http://localhost:1"),
        (by_name, "http://nothing.invalid"),
        (listed, "http://127.0.0.1:1"),
    ):
        with pytest.raises(SinkFault) as reported:
            sent("webhook", context, SinkOrigin.POLICY, url=url)
        reasons.add((str(reported.value), reported.value.final))
    assert len(reasons) == 1
    for url in ("http://127.0.0.1:1", f"http://127.0.0.1:{port}", f"http://[::ffff:127.0.0.1]:{port}"):
        with pytest.raises(SinkFault, match="sink_hosts") as reported:
            sent("webhook", by_name, SinkOrigin.POLICY, url=url)
        assert reported.value.final
    assert hook.got == []
    sent("webhook", listed, SinkOrigin.POLICY, url=f"http://127.0.0.1:{port}")
    hook.answers = [(302, {"location": f"http://127.0.0.1:{port}/elsewhere"})]
    with pytest.raises(SinkFault, match="302"):
        sent("webhook", listed, SinkOrigin.POLICY, url=f"http://127.0.0.1:{port}")
    assert [path for path, _, _ in hook.got] == ["/"]


def test_a_message_broker_of_a_policy_is_reached_by_the_same_rules(around: SinkContext) -> None:
    context = replace(around, hosts=parse_hosts(["localhost"]))
    with pytest.raises(SinkFault, match="none that a policy may reach"):
        sent("nats", context, SinkOrigin.POLICY, url="nats://localhost:1", subject="s")


def test_a_message_broker_is_reached_by_a_permitted_address_and_its_name_is_kept_for_tls(around: SinkContext) -> None:
    listed = replace(around, trusted=False, hosts=parse_hosts(["127.0.0.0/8"]))
    assert nats._resolve_server("tls://127.0.0.1:4333", listed) == (
        "tls://127.0.0.1:4333",
        {"tls_hostname": "127.0.0.1"},
    )
    assert nats._resolve_server("nats://127.0.0.1", listed) == ("nats://127.0.0.1:4222", {})
    assert nats._resolve_server("nats://anywhere", replace(around, trusted=True)) == ("nats://anywhere", {})


def test_a_binary_webhook_signs_its_headers_too(hook: Receiver, around: SinkContext) -> None:
    new, old = SecretSource(value=Secret("new", b"n" * 24)), SecretSource(around.home / "key")
    context = replace(around, secrets=SecretStore({"new": new, "old": old}))
    sent("webhook", context, url=hook.url, mode="binary", secret=["new", "old"])
    _, headers, body = hook.got[0]
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("ce-"))
    message = f"{EVENT['id']}_{hashlib.sha256(lines.encode()).hexdigest()}"
    assert headers["webhook-id"] == message
    content = f"{message}.1000.".encode() + body
    expected = [hmac.new(key, content, hashlib.sha256).digest() for key in (b"n" * 24, KEY.encode())]
    assert headers["webhook-signature"] == " ".join(f"v1,{base64.b64encode(item).decode()}" for item in expected)
    assert headers["penstock-signature"] == "sha256=" + hmac.new(b"n" * 24, body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("text", ["", "short", "whsec_c2hvcnQ=", "whsec_!"])
def test_nothing_is_signed_with_a_weak_secret(around: SinkContext, text: str) -> None:
    (around.home / "key").write_text(text)
    with pytest.raises(SinkFault, match="'key'"):
        sent("webhook", around, url="http://127.0.0.1:1/", secret_file="key")


def test_a_command_gets_a_clean_environment_and_the_secrets_it_names(
    around: SinkContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("PENSTOCK_REGISTRY", "postgresql://u:planted@h/db")
    monkeypatch.setenv("PENSTOCK_HTTP_PORT", "0")
    context = replace(around, secrets=SecretStore({"key": SecretSource(around.home / "key")}))
    script = "import json, os; json.dump(dict(os.environ), open('environment', 'w'))"
    sent("command", context, argv=[sys.executable, "-c", script], secrets={"TRAINING_KEY": "key"})
    found = json.loads((around.home / "retraining" / EVENT["id"] / "environment").read_text())
    assert found["TRAINING_KEY"] == KEY
    assert found["PENSTOCK_HTTP_PORT"] == "0"
    assert {"PENSTOCK_EVENT", "PENSTOCK_MODEL", "PATH"} <= set(found)
    known = {"PATH", "HOME", "LANG", "LC_CTYPE", "TRAINING_KEY"}  # LC_CTYPE is Python's own (PEP 538)
    assert all(name in known or name.startswith("PENSTOCK_") for name in found)
    assert "planted" not in json.dumps(found)
    with pytest.raises(NotStarted, match="no secret 'none'"):
        sent("command", context, argv=["true"], secrets={"A": "none"})


def test_a_command_gets_the_event_and_its_output_is_kept(around: SinkContext) -> None:
    script = "import json,os,sys; e=json.load(sys.stdin); print(e['id'], os.environ['PENSTOCK_MODEL'])"
    sent("command", around, argv=[sys.executable, "-c", script])
    folder = around.home / "retraining" / EVENT["id"]
    assert (folder / "output.txt").read_text().split() == [EVENT["id"], "m"]
    assert json.loads((folder / "event.json").read_text()) == EVENT


def test_a_command_that_cannot_be_run_is_not_tried_again(around: SinkContext) -> None:
    with pytest.raises(SinkFault, match="cannot be run: No such file") as reported:
        sent("command", around, argv=["/nothing/here"])
    assert reported.value.final


def test_a_command_is_started_or_not_whatever_descriptors_there_are(around: SinkContext) -> None:
    """Each number of free descriptors, from none to enough: what is lacking is lacking before the start."""
    (around.home / "runs").touch()
    script, results = "open('../../runs', 'a').write('x')", []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for free in range(12):
        runs = len((around.home / "runs").read_text())
        holes = [os.dup(0) for _ in range(64)]
        for hole in holes[-free:] if free else []:
            os.close(hole)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(holes) + 1, hard))
        try:
            sent("command", around, argv=[sys.executable, "-c", script])
            results.append(True)
        except NotStarted:
            results.append(False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for hole in holes[: len(holes) - free]:
                os.close(hole)
        assert len((around.home / "runs").read_text()) == runs + results[-1]
    assert results[0] is False
    assert results[-1] is True


def test_a_command_that_is_done_stays_done_where_its_output_cannot_be_kept(around: SinkContext) -> None:
    script = "import os, sys; os.symlink('/dev/full', 'output.txt'); print('done')"
    sent("command", around, argv=[sys.executable, "-c", script])
    [folder] = (around.home / "retraining").iterdir()
    assert (folder / "output.txt").is_symlink()


def test_a_command_that_fails_is_reported_with_its_last_lines(around: SinkContext) -> None:
    script = "print('\\n'.join(f'line {n}' for n in range(100))); raise SystemExit(3)"
    with pytest.raises(SinkFault, match="the command ended with 3; its last output:") as reported:
        sent("command", around, argv=[sys.executable, "-c", script])
    assert reported.value.output.splitlines() == [f"line {number}" for number in range(80, 100)]
    assert str(reported.value).endswith("line 99")
    assert reported.value.final
    with pytest.raises(SinkFault, match="ended with 4, without output"):
        sent("command", around, argv=[sys.executable, "-c", "raise SystemExit(4)"])


LEAVES = """import subprocess, sys, time
child = subprocess.Popen(['sleep', '600'], **eval(sys.argv[1]))
open('child', 'w').write(str(child.pid))
print('begun', flush=True)
time.sleep(float(sys.argv[2]))
raise SystemExit(int(sys.argv[3]))"""
"""Leaves a child behind, which lives on after its own end."""

QUIET = "{'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}"


def child_of(around: SinkContext) -> int:
    return int((around.home / "retraining" / EVENT["id"] / "child").read_text())


@pytest.mark.parametrize("options", ["{}", QUIET])
def test_a_command_that_takes_too_long_ends_with_all_its_processes(around: SinkContext, options: str) -> None:
    with pytest.raises(SinkFault, match=r"killed after 2 s; its last output:\nbegun"):
        sent("command", around, argv=[sys.executable, "-c", LEAVES, options, "600", "0"], timeout_seconds=2)
    assert (around.home / "retraining" / EVENT["id"] / "output.txt").read_text() == "begun\n"
    wait_until(lambda: not is_alive(child_of(around)), PATIENCE_S, "the end of its child")


@pytest.mark.parametrize("options", ["{}", QUIET])
@pytest.mark.parametrize("code", [0, 3])
def test_a_command_is_over_when_its_process_ends_whatever_it_leaves(
    around: SinkContext, options: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LINGER_S", 0.1)
    with pytest.raises(SinkFault, match="ended with 3") if code else nullcontext():
        sent("command", around, argv=[sys.executable, "-c", LEAVES, options, "0", str(code)])
    wait_until(lambda: not is_alive(child_of(around)), PATIENCE_S, "the end of its child")


def test_a_process_that_left_the_group_does_not_hold_a_command_up(
    around: SinkContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LINGER_S", 0.1)
    options = "{'start_new_session': True}"
    sent("command", around, argv=[sys.executable, "-c", LEAVES, options, "0", "0"])
    assert is_alive(child_of(around))
    os.kill(child_of(around), signal.SIGKILL)


def test_a_command_that_closes_its_output_is_waited_for(around: SinkContext) -> None:
    script = "import os, time; os.close(1); os.close(2); time.sleep(0.5); open('end', 'w'); os._exit(5)"
    with pytest.raises(SinkFault, match="ended with 5, without output"):
        sent("command", around, argv=[sys.executable, "-c", script])
    assert (around.home / "retraining" / EVENT["id"] / "end").exists()


def test_an_output_that_is_not_text_is_reported_as_text(around: SinkContext) -> None:
    script = r"import os; os.write(1, b'a\0b\xff\n'); raise SystemExit(3)"
    with pytest.raises(SinkFault) as reported:
        sent("command", around, argv=[sys.executable, "-c", script])
    assert reported.value.output == "a\ufffdb\ufffd"


@pytest.mark.parametrize("chunks", [[b"abc"], [b"0123456789"] * 3, [b"x" * 1000, b"the end"], [b"y"] * 100])
def test_only_the_last_bytes_of_an_output_are_kept(chunks: list[bytes]) -> None:
    tail, whole = OutputTail(most=16), b"".join(chunks)
    for chunk in chunks:
        tail.add(chunk)
    kept = tail.content()
    assert kept.endswith(whole[-16:])
    assert tail.dropped == max(0, len(whole) - 16)
    assert kept.startswith(b"[") is bool(tail.dropped)


def test_an_endless_output_takes_little_memory(around: SinkContext) -> None:
    script = f"import sys\nfor n in range(40): sys.stdout.write(str(n % 10) * {OUTPUT_MOST // 4})"
    sent("command", around, argv=[sys.executable, "-c", script])
    kept = (around.home / "retraining" / EVENT["id"] / "output.txt").read_bytes()
    note, _, rest = kept.partition(b"\n")
    assert note == b"[%d bytes before this were dropped]" % (9 * OUTPUT_MOST)
    assert rest == b"".join(str(number).encode() * (OUTPUT_MOST // 4) for number in (6, 7, 8, 9))


def test_commands_end_with_the_gateway(around: SinkContext) -> None:
    threading.Timer(0.3, around.commands.end).start()
    for _ in range(2):  # the second begins when all is over already
        with pytest.raises(SinkFault, match="ended with -9"):
            sent("command", around, argv=[sys.executable, "-c", "import time; time.sleep(60)"])


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("", 0),
        ("12", 12),
        ("soon", 0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:02:00", 20),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 9999999999999999999 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(stated: str, seconds: float) -> None:
    assert retry_after(stated, now=100.0) == seconds


def test_argo_and_kubeflow_get_their_own_requests(hook: Receiver, around: SinkContext) -> None:
    sent("argo", around, url=f"{hook.url}/retrain", token_file="token")
    sent("kubeflow", around, url=f"{hook.url}/pipeline", pipeline="p1", version="v2", experiment="e3")
    argo, kubeflow = hook.got
    assert (argo[0], json.loads(argo[2])) == ("/retrain", EVENT)
    assert argo[1]["authorization"] == "Bearer t0ken"
    assert kubeflow[0] == "/pipeline/apis/v2beta1/runs"
    run = json.loads(kubeflow[2])
    assert run["display_name"] == f"penstock-{'ab' * 16}"
    assert run["pipeline_version_reference"] == {"pipeline_id": "p1", "pipeline_version_id": "v2"}
    assert (run["experiment_id"], json.loads(run["runtime_config"]["parameters"]["event"])) == ("e3", EVENT)


FOREIGN = """
from penstock.control.sinks import SinkFault

class Carrier:
    fields = {"loft": (str, True)}
    def send(self, values, event, around):
        if values["loft"] == "empty":
            raise SinkFault("no pigeon", after_s=5.0)
        with open(around.home / values["loft"], "a") as file:
            file.write(event["id"])
"""


def test_other_packages_bring_sinks_by_an_entry_point(
    around: SinkContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "packages" / "carrier-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    entries = "carrier = carrier_sink:Carrier\nbroken = nowhere:Nothing\nwebhook = carrier_sink:Carrier\n"
    (info / "entry_points.txt").write_text(f"[penstock.sinks]\n{entries}")
    (info.parent / "carrier_sink.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setattr(plugins, "FIELDS", fields := dict(FIELDS))
    monkeypatch.setattr(plugins, "_SENDERS", dict(plugins._SENDERS))
    before = fields["webhook"]
    load_plugins()
    assert fields["carrier"] == {"loft": (str, True)}
    assert "broken" not in fields
    assert fields["webhook"] == before  # what is here cannot be replaced
    with pytest.raises(SinkFault, match="cannot use sinks of other packages"):
        sent("carrier", around, SinkOrigin.POLICY, loft="told")
    sent("carrier", around, loft="told")
    assert (around.home / "told").read_text() == EVENT["id"]
    with pytest.raises(SinkFault, match="no pigeon"):
        sent("carrier", around, loft="empty")


def test_packages_are_read_only_if_one_states_a_sink(tmp_path: Path) -> None:
    for name in ("plain-1.0.dist-info", "bare-1.0.dist-info", "carrier"):
        (tmp_path / name).mkdir()
    (tmp_path / "plain-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nplain = plain:main\n")
    (tmp_path / "carrier" / "entry_points.txt").write_text("[penstock.sinks]\ncarrier = carrier:Carrier\n")
    assert not may_have_plugins([str(tmp_path), str(tmp_path / "missing")])
    (tmp_path / "bare-1.0.dist-info" / "entry_points.txt").write_text("[penstock.sinks]\ncarrier = carrier:Carrier\n")
    assert may_have_plugins([str(tmp_path / "missing"), str(tmp_path)])


def test_archives_may_state_a_sink(tmp_path: Path) -> None:
    (tmp_path / "packages.zip").touch()
    assert may_have_plugins([str(tmp_path / "packages.zip")])
    assert may_have_plugins([str(tmp_path / "carrier.egg")])


def sleeping() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)


def test_what_would_begin_after_the_end_ends_at_once() -> None:
    commands = RunningCommands()
    with sleeping() as first, commands.running(first.pid):
        assert first.poll() is None
        commands.end()
        assert first.wait(PATIENCE_S) == -signal.SIGKILL
    with sleeping() as second, commands.running(second.pid):
        assert second.wait(PATIENCE_S) == -signal.SIGKILL
    commands.end()  # nothing runs any more


def test_a_kubeflow_run_is_of_the_newest_version_where_none_is_named(hook: Receiver, around: SinkContext) -> None:
    sent("kubeflow", around, url=hook.url, pipeline="p1")
    run = json.loads(hook.got[0][2])
    assert run["pipeline_version_reference"] == {"pipeline_id": "p1"}
    assert "experiment_id" not in run
