"""The page of access: who the caller is, what it may do, and the API keys that it administers."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.admin.access import caller_document
from penstock.api.admin.caller_check import caller_of
from penstock.api.console.markup import (
    Child,
    Markup,
    description_list,
    join,
    render_badge,
    render_element,
    render_table,
)
from penstock.api.console.services import ConsoleServices, Page
from penstock.core.access.permissions import Permission
from penstock.core.errors import Fault


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page; a caller that administers no keys gets the reason in their place."""
    caller = caller_document(caller_of(request))
    grants = [f"{', '.join(grant['roles'])} for {grant['models']}" for grant in caller["grants"]]
    you = description_list(
        [("Name", caller["name"]), ("Known by", caller["method"]), ("Roles", "; ".join(grants) or "none")]
    )
    return Page(
        "Access",
        join(render_element("h2", "You"), you, render_element("h2", "API keys"), await _render_keys(services, request)),
    )


async def _render_keys(services: ConsoleServices, request: Request) -> Markup:
    caller = caller_of(request)
    if not caller.may_anywhere(Permission.ADMINISTER):
        return render_element("p", "You need the permission 'administer' for a model.", class_="muted")
    try:
        keys = await services.keys.list_keys(caller)
    except Fault as fault:
        return render_element("p", f"{fault}.", class_="muted")
    heads = ("Name", "Id", "State", "Roles", "Models", "Expires")
    return render_table("API keys", heads, map(_key_cells, keys), "No keys yet.")


def _key_cells(key: Mapping[str, Any]) -> tuple[Child, ...]:
    state = render_badge(key.get("state", "-"), "good" if key.get("state") == "valid" else "")
    roles, models = ", ".join(key.get("roles", ())), ", ".join(key.get("models", ()))
    return key["name"], key.get("id", "-"), state, roles, models, key.get("expires_at") or "never"
