"""The console page at the root of the ops port: models, workers and links, without scripts or external content."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import Any

from penstock.control.reconcile.status import Readiness
from penstock.core.desired import VersionStatus

DIGEST_SHOWN = len("sha256:") + 12


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """Facts that do not change while the gateway runs: its version and its addresses (host:port)."""

    version: str
    http: str
    grpc: str


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c2733 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .6rem .3rem 0 }
th { border-bottom: 1px solid #9aa7b4; font-weight: 600 } td { border-bottom: 1px solid #e3e8ed; vertical-align: top }
.READY, .ready { color: #10703c } .UNAVAILABLE, .absent { color: #a4262c } .LOADING, .starting { color: #8a5a00 }
"""
STYLE_HASH = f"sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}"
"""The hash by which a content security policy allows this style, and no other."""

_HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Penstock</title>
<style>{_STYLE}</style></head><body>
"""


def page(
    facts: GatewayFacts,
    readiness: Readiness,
    statuses: Sequence[VersionStatus],
    workers: Sequence[tuple[int, str]],
    models: Sequence[Mapping[str, Any]],
) -> str:
    """Return the page as HTML; ``models`` are the registry's documents, empty if it does not answer."""
    state = "ready" if readiness.ready else f"not ready: {readiness.reason}"
    documents = {(model["name"], version["version"]): version for model in models for version in model["versions"]}
    versions = [_version(status, documents.get((status.model, status.version), {})) for status in statuses]
    processes = [(str(index), str(pid or "-"), _colour_state(name)) for index, (pid, name) in enumerate(workers)]
    return "".join(
        (
            _HEAD,
            f"<h1>Penstock {escape(facts.version)}: {escape(state)}</h1>",
            f"<p>REST <code>{escape(facts.http)}</code>, gRPC <code>{escape(facts.grpc)}</code></p>",
            "<h2>Models</h2>",
            _table(("Model", "Version", "State", "Aliases", "Digest", "Reason"), versions),
            f"<h2>Workers: {readiness.workers_ready} of {readiness.workers} ready</h2>",
            _table(("Worker", "Process", "State"), processes),
            '<h2>Look closer</h2><p><a href="/readyz">readiness</a> &middot; <a href="/livez">liveness</a> &middot; ',
            '<a href="/metrics">metrics</a> &middot; <a href="/admin/v1/models">models as JSON</a> &middot; ',
            '<a href="/admin/v1/audit">audit</a></p></body></html>\n',
        )
    )


class _Html(str):
    """Text that already is HTML."""

    __slots__ = ()


def _version(status: VersionStatus, document: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        status.model,
        status.version or "-",
        _colour_state(status.state.value),
        ", ".join(document.get("aliases") or ()),
        _digest(document.get("digest") or ""),
        status.reason,
    )


def _digest(digest: str) -> str:
    return _Html(f'<code title="{escape(digest)}">{escape(digest[:DIGEST_SHOWN])}</code>') if digest else ""


def _colour_state(state: str) -> str:
    return _Html(f'<span class="{escape(state)}">{escape(state)}</span>')


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    return f"<td>{text if isinstance(text, _Html) else escape(text)}</td>"
