"""Commands that speak TLS: by https in --url, by the settings, and by what the gateway has written into its home."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import harness, zoo
from tests.certificates import Pair, issue, make_authority
from tests.harness import Server

DATA = "[[1, 2, 3]]"


@dataclass(frozen=True, slots=True)
class Secure:
    """A gateway with TLS that asks for certificates of clients, and how its clients are trusted."""

    server: Server
    folder: Path
    authority: Pair
    chain: Pair
    bot: Pair
    stranger: Pair

    def run(self, *arguments: str, home: str = "elsewhere", **env: str) -> CompletedProcess[str]:
        """Run a command, by default without the gateway's home."""
        return harness.run_command(*arguments, folder=self.folder / home, env=env)

    def predict(self, *options: str, home: str = "elsewhere", **env: str) -> CompletedProcess[str]:
        return self.run("predict", "m", "--data", DATA, "--json", *options, home=home, **env)


def identified(pair: Pair) -> list[str]:
    return ["--cert-file", str(pair.certificate), "--key-file", str(pair.key)]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    authority, clients = make_authority(folder), make_authority(folder, "clients")
    chain = issue(authority, folder, "server", ["DNS:gateway.example", "DNS:localhost"])
    bot = issue(clients, folder, "bot", ["URI:spiffe://x/bot"])
    stranger = issue(authority, folder, "stranger", ["URI:spiffe://x/bot"])
    models = folder / "models"
    zoo.place(models, "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    env = {
        "PENSTOCK_TLS__CERTIFICATE_FILE": str(chain.certificate),
        "PENSTOCK_TLS__KEY_FILE": str(chain.key),
        "PENSTOCK_TLS__CLIENT": "required",
        "PENSTOCK_AUTH__MTLS__CLIENT_CA": str(clients.certificate),
        "PENSTOCK_AUTH__BINDINGS": json.dumps([{"caller": "spiffe://x/bot", "role": "admin"}]),
    }
    with harness.running(models, folder / "gateway", env=env) as server:
        yield Secure(server, folder, authority, chain, bot, stranger)


def https_url(address: str) -> str:
    """The address by a name in the certificate."""
    return f"https://localhost:{address.rpartition(':')[2]}"


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_predict_by_url(secure: Secure, transport: str) -> None:
    grpc = ["--grpc"] if transport == "grpc" else []
    url = ["--url", https_url(secure.server.grpc if grpc else secure.server.http), *grpc]
    ca = ["--ca-file", str(secure.authority.certificate)]
    done = secure.predict(*url, *ca, *identified(secure.bot))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"][0]["data"] == [3, 5, 7]
    for options in ([*url, *identified(secure.bot)], [*url, *ca], [*url, *ca, *identified(secure.stranger)]):
        done = secure.predict(*options, "--timeout", "10")
        assert (done.returncode, len(done.stderr.splitlines())) == (7, 1), done.stderr


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_load_tests_run_over_tls(secure: Secure, transport: str) -> None:
    grpc = ["--grpc"] if transport == "grpc" else []
    url = ["--url", https_url(secure.server.grpc if grpc else secure.server.http), *grpc]
    ca = ["--ca-file", str(secure.authority.certificate)]
    load = ["--rate", "50", "--seconds", "0.5", "--warmup", "0", "--connections", "2", "--max-lag", "100000"]
    slo = ["--slo", "errors<=0"]
    done = secure.run("loadtest", "m", *load, *slo, *url, *ca, *identified(secure.bot))
    assert done.returncode == 0, done.stderr
    assert "kept: errors<=0 (observed: 0.0000%)" in done.stdout
    done = secure.run("loadtest", "m", *load, *url, *ca, *identified(secure.stranger))
    assert (done.returncode, len(done.stderr.splitlines())) == (7, 1), done.stderr


def test_what_to_do_is_said(secure: Secure) -> None:
    url, ca = ["--url", https_url(secure.server.http)], ["--ca-file", str(secure.authority.certificate)]
    assert "pass --ca-file" in secure.predict(*url, *identified(secure.bot)).stderr
    assert "--cert-file and --key-file belong together" in secure.predict(*url, "--cert-file", "x").stderr
    for options in (["--ca-file", "/none"], [*ca, "--cert-file", "/none", "--key-file", "/none"]):
        done = secure.predict(*url, *options)
        assert done.returncode == 2 and "cannot be used: no such file" in done.stderr


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_a_gateway_on_this_machine_is_trusted_by_its_own_files(secure: Secure, transport: str) -> None:
    """Its certificate needs no authority that is known here, and no name of this machine."""
    port = {"rest": "HTTP", "grpc": "GRPC"}[transport]
    address = secure.server.grpc if transport == "grpc" else secure.server.http
    env = {f"PENSTOCK_{port}_PORT": address.rpartition(":")[2]}
    grpc = ["--grpc"] if transport == "grpc" else []
    done = secure.predict(*grpc, *identified(secure.bot), home="gateway", **env)  # by the record in the home
    assert done.returncode == 0, done.stderr
    files = {
        "PENSTOCK_TLS__CERTIFICATE_FILE": str(secure.chain.certificate),
        "PENSTOCK_TLS__KEY_FILE": str(secure.chain.key),
    }
    done = secure.predict(*grpc, *identified(secure.bot), **env, **files)  # by the settings
    assert done.returncode == 0, done.stderr
    files["PENSTOCK_TLS__CERTIFICATE_FILE"] = str(secure.stranger.certificate)
    assert secure.predict(*grpc, *identified(secure.bot), **env, **files).returncode == 7


@pytest.mark.parametrize("command", [["models", "list"], ["health"], ["events"], ["audit"], ["route", "show", "m"]])
def test_verbs_of_the_ops_port(secure: Secure, command: list[str]) -> None:
    url = ["--url", https_url(secure.server.ops), "--json"]
    options = ["--ca-file", str(secure.authority.certificate), *identified(secure.bot)]
    done = secure.run(*command, *url, *options)
    assert done.returncode in (0, 3), done.stderr
    assert done.stderr == "" or "route" in done.stderr
    done = secure.run(*command, *url, *options[:2])
    assert done.returncode == 7


def test_the_environment_names_the_files_too(secure: Secure) -> None:
    env = {
        "PENSTOCK_CA_FILE": str(secure.authority.certificate),
        "PENSTOCK_CERT_FILE": str(secure.bot.certificate),
        "PENSTOCK_KEY_FILE": str(secure.bot.key),
    }
    assert secure.run("models", "list", "--url", https_url(secure.server.ops), **env).returncode == 0


def test_health_of_the_gateway_on_the_home_needs_no_certificate(secure: Secure) -> None:
    done = secure.run("health", home="gateway")
    assert done.returncode == 0, done.stderr


def test_plain_http_gets_no_answer(secure: Secure) -> None:
    assert secure.run("models", "list", "--url", secure.server.ops).returncode == 7
