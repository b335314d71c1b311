"""Why a connection failed, as the command line says it."""

from http.client import BadStatusLine

from penstock.cli.tls import explain


def test_what_a_wrong_port_answers_cannot_steer_the_terminal() -> None:
    text = explain(BadStatusLine("\0\x1b[2J\x9bthis port speaks HTTP/2"))
    assert text.isprintable() and "this port speaks HTTP/2" in text
