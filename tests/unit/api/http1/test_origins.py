"""Hosts and origins are checked where a head is read: before the application, once for each different head."""

import pytest

from penstock.core.access.origins import OriginPolicy
from tests.unit.api.http1.support import serving

OWN = b"Host: localhost:8000\r\n"
REFUSED = {
    "another host": (421, b"GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    "another host, HTTP/1.0": (421, b"GET /a HTTP/1.0\r\nHost: evil.example\r\n\r\n"),
    "no name in the Host field": (421, b"GET /a HTTP/1.1\r\nHost:\r\n\r\n"),
    "another host in the target": (421, b"GET http://evil.example/a HTTP/1.1\r\n" + OWN + b"\r\n"),
    "another host beside the target": (421, b"GET http://localhost/a HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    "another host in another case": (421, b"GET /a HTTP/1.1\r\nHOST: EVIL.example\r\n\r\n"),
    "a change of another origin": (403, b"DELETE /a HTTP/1.1\r\n" + OWN + b"Origin: http://evil.example\r\n\r\n"),
    "a change of another site": (403, b"PUT /a HTTP/1.1\r\n" + OWN + b"SEC-FETCH-SITE: cross-site\r\n\r\n"),
    "two origins": (
        403,
        b"POST /a HTTP/1.1\r\n" + OWN + b"Origin: http://localhost:8000\r\nOrigin: http://evil.example\r\n\r\n",
    ),
}
TAKEN = {
    "the own host": b"GET /a HTTP/1.1\r\n" + OWN + b"\r\n",
    "the own host in the target": b"GET http://localhost:8000/a HTTP/1.1\r\n" + OWN + b"\r\n",
    "no host in HTTP/1.0": b"GET /a HTTP/1.0\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\n" + OWN + b"\r\n",
    "reading by another origin": b"GET /a HTTP/1.1\r\n" + OWN + b"Origin: http://evil.example\r\n\r\n",
    "a change of the own origin": b"POST /a HTTP/1.1\r\n" + OWN + b"Origin: http://localhost:8000\r\n\r\n",
}


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
def test_the_application_never_sees_what_is_refused(status: int, data: bytes) -> None:
    with serving(policy=OriginPolicy()) as server:
        client = server.connect()
        [answer] = client.say(data)
        assert (answer.status, answer.fields["connection"]) == (status, "close")
        assert client.is_over
    with serving() as server:  # without a policy, every host is taken
        assert server.connect().say(data)[0].status == 200


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN)
def test_own_requests_are_answered(data: bytes) -> None:
    with serving(policy=OriginPolicy()) as server:
        assert server.connect().say(data)[0].status == 200
