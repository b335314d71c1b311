"""Who is measured: the ceilings, Penstock with its three codecs, and the endpoint that one would write without it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from loadtests.codecs import BINARY, GRPC, IMAGE, JSON, ROWS, Codec
from loadtests.models import BenchModel
from loadtests.peers.launch import PEERS
from loadtests.processes import Server, penstock, run_server

Command = Callable[[BenchModel, int], list[str]]
"""Writes the command that serves a model on that many cores."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and a codec; ``inline`` and ``batched`` name the ceilings it is compared with."""

    name: str
    server: str
    codec: Codec
    inline: str
    batched: str

    def address(self, server: Server) -> str:
        """Where to send its load."""
        return server.addresses["grpc" if self.codec.grpc else "http"]

    @property
    def ceiling_codec(self) -> str:
        """The codec of the ceilings it is compared with."""
        return self.batched.removeprefix("batched ")

    def beside(self, server: str) -> str:
        """The name of the contender of another server that it is compared with."""
        return f"{server} {self.ceiling_codec}"


_BEYOND = frozenset({"large"})
"""Models whose answers are over a client's first window, which the gRPC ceilings do not heed."""


def list_contenders(model: BenchModel) -> list[Contender]:
    """Everybody, in the order of the first round."""
    everybody = _list_all(model)
    return (
        [contender for contender in everybody if contender.server not in ("inline grpc", "batched grpc")]
        if model.name in _BEYOND
        else everybody
    )


def _list_all(model: BenchModel) -> list[Contender]:
    large = model.many_threads
    fastapi = _make_contender("fastapi", "fastapi", IMAGE if large else ROWS, "binary" if large else "json")
    return [
        _make_contender("inline json", "inline json", JSON, "json"),
        _make_contender("penstock json", "penstock", JSON, "json"),
        _make_contender("batched json", "batched json", JSON, "json"),
        fastapi,
        _make_contender("inline binary", "inline binary", BINARY, "binary"),
        _make_contender("penstock binary", "penstock", BINARY, "binary"),
        _make_contender("batched binary", "batched binary", BINARY, "binary"),
        _make_contender("inline grpc", "inline grpc", GRPC, "grpc"),
        _make_contender("penstock grpc", "penstock", GRPC, "grpc"),
        _make_contender("batched grpc", "batched grpc", GRPC, "grpc"),
        _make_contender("2 workers json", "2 workers", JSON, "json"),
        _make_contender("2 workers binary", "2 workers", BINARY, "binary"),
        _make_contender("2 workers grpc", "2 workers", GRPC, "grpc"),
    ]


def list_peers() -> list[Contender]:
    """Servers that others have made, each with the codecs it has."""
    return [
        _make_contender("litserve json", "litserve", ROWS, "json"),
        _make_contender("bentoml json", "bentoml", ROWS, "json"),
        _make_contender("kserve json", "kserve", JSON, "json"),
        _make_contender("kserve grpc", "kserve", GRPC, "grpc"),
        _make_contender("mlserver json", "mlserver", JSON, "json"),
        _make_contender("mlserver grpc", "mlserver", GRPC, "grpc"),
        _make_contender("triton json", "triton", JSON, "json"),
        _make_contender("triton binary", "triton", BINARY, "binary"),
        _make_contender("triton grpc", "triton", GRPC, "grpc"),
    ]


def _make_contender(name: str, server: str, codec: Codec, ceiling: str) -> Contender:
    return Contender(name, server, codec, f"inline {ceiling}", f"batched {ceiling}")


def _ceiling(codec: str, *options: str) -> Command:
    def command(model: BenchModel, cores: int) -> list[str]:
        threads = str(model.threads(cores))
        module = [sys.executable, "-m", "loadtests.ceiling", model.name]
        return [*module, "--codec", codec, "--threads", threads, *options]

    return command


def _fastapi_command(model: BenchModel, cores: int) -> list[str]:
    threads = str(model.threads(cores))
    return [sys.executable, "-m", "loadtests.peers.fastapi_app", model.name, "--threads", threads]


def _penstock_command(model: BenchModel, cores: int) -> list[str]:
    return penstock(model.folder, "--workers", "1")


def _two_workers(model: BenchModel, cores: int) -> list[str]:
    return penstock(model.folder, "--workers", "2")


def _peer(name: str) -> Command:
    def command(model: BenchModel, cores: int) -> list[str]:
        threads = str(model.threads(cores))
        return [sys.executable, "-m", "loadtests.peers.launch", name, model.name, "--threads", threads]

    return command


_COMMANDS: dict[str, Command] = {
    "inline json": _ceiling("json"),
    "batched json": _ceiling("json", "--batched"),
    "inline binary": _ceiling("binary"),
    "batched binary": _ceiling("binary", "--batched"),
    "inline grpc": _ceiling("grpc"),
    "batched grpc": _ceiling("grpc", "--batched"),
    "penstock": _penstock_command,
    "2 workers": _two_workers,
    "fastapi": _fastapi_command,
    **{name: _peer(name) for name in PEERS},
}


@contextmanager
def all_running(wanted: Sequence[Contender], model: BenchModel, cores: Sequence[int]) -> Iterator[dict[str, Server]]:
    """Start the servers of these contenders beside each other: one that is not asked anything costs nothing. Servers of
    others that do not start are left out, with a word."""
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in dict.fromkeys(contender.server for contender in wanted):
            try:
                servers[name] = stack.enter_context(run_server(_COMMANDS[name](model, len(cores)), cores))
            except RuntimeError as failure:
                if name not in PEERS:
                    raise
                print(f"{name} does not start and is left out: {str(failure)[-300:]}", file=sys.stderr)
        yield servers
