"""The frame of a report as one page: its style, and tables; without a script, and without anything from elsewhere."""

from collections.abc import Sequence
from html import escape
from typing import Final

_OUTCOMES: Final = ("pass", "breach", "undecided")

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6675; --line: #d8dee6; --paper: #fff; --a: #0b62c4;
  --b: #b34700; --c: #0b7a4b; --d: #8a2be2; --bad: #b00020; --good: #0b7a4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf2; --soft: #a4afbf; --line: #36404d; --paper: #14191f;
  --a: #69b1ff; --b: #ffa366; --c: #58d3a0; --d: #c79bff; --bad: #ff8a95; --good: #58d3a0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; } caption { text-align: left; color: var(--soft); }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.pass { color: var(--good); } .breach, .invalid, .interrupted { color: var(--bad); font-weight: 600; }
pre { overflow-x: auto; } figure { margin: 1.5rem 0; overflow-x: auto; } figcaption { font-weight: 600; }
svg { width: 100%; min-width: 40rem; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .axis { fill: var(--soft); }
.grid { stroke: var(--line); } .one { stroke: var(--soft); stroke-dasharray: 4 3; }
path { fill: none; stroke-width: 2; } .s0 { stroke: var(--a); } .s1 { stroke: var(--b); } .s2 { stroke: var(--c); }
.s3 { stroke: var(--d); } line.s0 { stroke-width: 2; } .d0 { fill: var(--a); } svg .t0 { fill: var(--a); }
svg .t1 { fill: var(--b); } svg .t2 { fill: var(--c); } svg .t3 { fill: var(--d); }
.kept { fill: var(--good); stroke: var(--good); } .breached { fill: none; stroke: var(--bad); stroke-width: 2; }
"""


def to_page(title: str, body: str) -> str:
    """Return a page with a title around its body, which is HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def to_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are texts, but for marks of an outcome.

    What scrolls on a narrow screen takes the focus, so that the keyboard scrolls it.
    """
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(map(_render_cell, row))}</tr>" for row in rows)
    content = f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody>"
    return f'<table tabindex="0">{content}</table>'


def to_details(summary: str, text: str) -> str:
    """Return a text with fixed spaces that opens below its summary."""
    return f'<details><summary>{escape(summary)}</summary><pre tabindex="0">{escape(text)}</pre></details>'


def _render_cell(text: str) -> str:
    return f'<td class="{text}">{text}</td>' if text in _OUTCOMES else f"<td>{escape(text)}</td>"
