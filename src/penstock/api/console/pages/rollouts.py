"""The page of a model's rollouts and experiments, newest first."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.console.markup import join, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.trial_tables import percent_text, state_badge, trial_link

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    model, traffic = params["model"], services.traffic
    rollouts, experiments = await asyncio.gather(
        traffic.rollouts.list_trials(model), traffic.experiments.list_trials(model)
    )
    body = join(
        render_element("h2", "Rollouts"),
        render_table(
            "Rollouts",
            ("Version", "State", "Weight", "Began", "By", "Last reason"),
            [_rollout_row(request, model, item) for item in rollouts],
            "No rollout yet.",
        ),
        render_element("h2", "Experiments"),
        render_table(
            "Experiments",
            ("Arms", "State", "Best arm", "Began", "By"),
            [_experiment_row(request, model, item) for item in experiments],
            "No experiment yet.",
        ),
    )
    return Page(f"{model}: rollouts", body)


def _rollout_row(request: Request, model: str, item: Document) -> tuple[str, ...]:
    link = trial_link(request, model, "rollouts", item["id"], f"{item['from']} → {item['to']}")
    shown = state_badge(item["state"]), percent_text(item["weight"]), item["created_at"]
    return link, *shown, item["created_by"], item["reason"] or "-"


def _experiment_row(request: Request, model: str, item: Document) -> tuple[str, ...]:
    link = trial_link(request, model, "experiments", item["id"], ", ".join(item["arms"]))
    return link, state_badge(item["state"]), item["best"] or "not known", item["created_at"], item["created_by"]
