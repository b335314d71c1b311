"""The page of one rollout: its steps, the evidence of its guards, what is still needed, and who changed it."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.console.markup import Markup, join, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.trial_tables import describe_start, format_number, percent_text, render_history, state_badge

Document = Mapping[str, Any]


async def build(services: ConsoleServices, _: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    rollout = await services.traffic.rollouts.get_trial(params["model"], params["id"])
    texts = [*rollout["progress"], *rollout["warnings"]]
    body = join(
        _render_summary(rollout),
        describe_start(rollout),
        render_element("ul", *(render_element("li", text) for text in texts)),
        render_element("h2", "Guards"),
        _render_guards(rollout),
        render_history(rollout["changes"]),
    )
    return Page(f"{params['model']}: rollout {params['id']}", body)


def _render_summary(rollout: Document) -> Markup:
    versions = f" version {rollout['from']} → {rollout['to']} at {percent_text(rollout['weight'])}"
    return render_element(
        "p", state_badge(rollout["state"]), versions, f": {rollout['reason']}" if rollout["reason"] else ""
    )


def _render_guards(rollout: Document) -> Markup:
    heads = ("Guard", "Verdict", "Against it", "For it", "Effect", "Canary", "Control")
    return render_table("Evidence of the guards", heads, [_guard_row(*item) for item in rollout["evidence"].items()])


def _guard_row(name: str, item: Document) -> tuple[str, ...]:
    against = f"{format_number(item['log_e'])} of {format_number(item['log_e_fail_at'])}"
    passing = f"{format_number(item['log_e_pass'])} of {format_number(item['log_e_pass_at'])}"
    counts = str(item["n_canary"]), str(item["n_control"])
    return name, state_badge(item["verdict"]), against, passing, format_number(item["effect"]), *counts
