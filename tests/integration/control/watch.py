"""What these tests look at: predictions, metrics and processes of a running server."""

from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families

from tests.harness import PATIENCE_S, Server, wait_until

BODY = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
SLOW = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'


def infer(server: Server, model: str = "pair") -> None:
    """One prediction that must succeed."""
    reply = server.rest("POST", f"/v2/models/{model}/infer", BODY)
    assert reply.status == 200, reply


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels."""
    lines = server.admin("GET", "/metrics").body.decode().splitlines()
    text = "\n".join(line for line in lines if line.startswith(name))  # all of it takes ten times as long to read
    return sum(
        sample.value
        for family in text_string_to_metric_families(f"{text}\n")
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def counts(server: Server, expected: float) -> None:
    """Wait a moment until the requests counted are those expected: a call is counted just after it is answered."""
    wait_until(
        lambda: metric(server, "penstock_requests_total") == expected, PATIENCE_S, f"{expected} requests counted"
    )


def port_of(address: str) -> int:
    """The port of host:port."""
    return int(address.rpartition(":")[2])


class Caller:
    """Keeps one connection and calls again and again; says how many calls succeeded and what went wrong."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection(server.http, timeout=PATIENCE_S)
        self.succeeded = 0
        self.failed: list[str] = []

    def call(self) -> None:
        """One prediction; a connection that was closed between two calls is opened anew."""
        try:
            self._connection.request("POST", "/v2/models/pair/infer", BODY)
            answer = self._connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.succeeded += 1
            else:
                self.failed.append(str(answer.status))
        except OSError as error:
            self.failed.append(repr(error))
            self._connection.close()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
