"""The page of one experiment: its arms with their rewards, and who changed it."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.console.markup import join, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.trial_tables import describe_start, format_number, percent_text, render_history, state_badge

Document = Mapping[str, Any]


async def build(services: ConsoleServices, _: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    experiment = await services.traffic.experiments.get_trial(params["model"], params["id"])
    best = experiment["best"]
    text = " no arm is known to be the best yet" if best is None else f" version {best} is the best"
    heads = ("Version", "Weight", "Requests", "Rewards", "Mean", "Interval")
    body = join(
        render_element("p", state_badge(experiment["state"]), text),
        describe_start(experiment),
        render_element("h2", "Arms"),
        render_table("Arms of the experiment", heads, [_arm_row(*item) for item in experiment["arms"].items()]),
        render_history(experiment["changes"]),
    )
    return Page(f"{params['model']}: experiment {params['id']}", body)


def _arm_row(arm: str, item: Document) -> tuple[str, ...]:
    interval = f"{format_number(item['low'])} to {format_number(item['high'])}" if item["rewards"] else "no rewards yet"
    counts = str(item["requests"]), str(item["rewards"])
    return arm, percent_text(item["weight"]), *counts, format_number(item["mean"]), interval
