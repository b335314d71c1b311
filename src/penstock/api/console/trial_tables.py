"""What the pages of rollouts and experiments show alike: weights, states, and the history of changes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request

from penstock.api.console.links import make_href, model_path
from penstock.api.console.markup import Markup, join, render_badge, render_element, render_table

Document = Mapping[str, Any]

KINDS: Final[Mapping[str, str]] = {
    "running": "warn",
    "paused": "warn",
    "promoted": "good",
    "pass": "good",
    "rolled_back": "bad",
    "fail": "bad",
}
"""How good a state or a verdict is."""


def state_badge(state: str) -> Markup:
    """Return a state or a verdict as a badge."""
    return render_badge(state.replace("_", " "), KINDS.get(state, ""))


def percent_text(points: float) -> str:
    """Return basis points as percent."""
    return f"{points / 100:g} %"


def format_number(value: float | None) -> str:
    """Return a number with few digits, or a hyphen."""
    return "-" if value is None else f"{value:.4g}"


def trial_link(request: Request, model: str, kind: str, trial_id: str, text: str) -> Markup:
    """Return a link to a trial; ``kind`` is "rollouts" or "experiments"."""
    return render_element("a", text, href=make_href(request, model_path(model, kind, trial_id)))


def render_history(changes: Sequence[Document]) -> Markup:
    """Return who changed a trial, when and why, the newest first."""
    rows = [_change_row(change) for change in reversed(changes)]
    heads = ("When", "Who", "What", "After it", "Why")
    return join(render_element("h2", "History"), render_table("Changes of this trial", heads, rows))


def _change_row(change: Document) -> tuple[str, ...]:
    weight = f" {percent_text(change['weight'])}" if "weight" in change else ""
    after = join(state_badge(change["state"]), weight) if "state" in change else "-"
    return change["at"], change["actor"], change["action"].replace("_", " "), after, change["reason"] or "-"


def describe_start(trial: Document) -> Markup:
    """Return when a trial began, who began it, and why."""
    reasons = [change["reason"] for change in trial.get("changes", ()) if change["action"] == "start"]
    why = f": “{reasons[0]}”" if reasons and reasons[0] else ""
    return render_element("p", f"Began {trial['created_at']} by {trial['created_by']}{why}.", class_="muted")
