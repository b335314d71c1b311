"""Reads the gateway's request counters from `/metrics`."""

import re
from collections import Counter
from http.client import HTTPConnection

from penstock.cli.demo.training import MODEL

LINE = re.compile(r"^penstock_requests_total\{(?P<labels>[^}]*)\} (?P<value>\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')

AnswerCounts = Counter[tuple[str, str]]
"""Requests by version and protocol."""


def read(address: str) -> tuple[AnswerCounts, int]:
    """Return the counted predictions and the number of failed requests; ``address`` is the ops port's."""
    connection = HTTPConnection(address, timeout=5.0)
    try:
        connection.request("GET", "/metrics")
        return parse(connection.getresponse().read().decode())
    finally:
        connection.close()


def parse(exposition: str) -> tuple[AnswerCounts, int]:
    """As ``read``, from the text."""
    counted, errors = AnswerCounts(), 0
    for line in LINE.finditer(exposition):
        labels = dict(LABEL.findall(line["labels"]))
        number = int(float(line["value"]))
        if labels["code"] not in {"200", "OK"}:
            errors += number
        elif labels["model"] == MODEL and number:
            counted[labels["version"], labels["protocol"]] += number
    return counted, errors
