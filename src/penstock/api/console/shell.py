"""The frame of every page of the console: head, navigation, the tabs of a model, and where the script shows itself."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from penstock.api.console.assets import static_files
from penstock.api.console.links import base_of, make_href, model_path, path_parameters, static_href
from penstock.api.console.markup import Markup, join, render_element
from penstock.api.console.services import GatewayFacts, Page
from penstock.core.access.callers import Caller

PLACES: Final = (
    ("Models", "/console/models", "g m"),
    ("Fleet", "/console/fleet", "g f"),
    ("Timeline", "/console/timeline", "g t"),
    ("Access", "/console/access", "g a"),
)
TABS: Final[Mapping[str, str]] = {
    "": "Versions",
    "traffic": "Traffic",
    "rollouts": "Rollouts",
    "monitor": "Monitor",
    "retraining": "Retraining",
    "try": "Try it",
}
"""The pages of a model by their step in the path."""

BELOW: Final[Mapping[str, str]] = {"versions": "", "compare": "", "shadow": "traffic", "experiments": "rollouts"}
"""The tabs of pages whose address begins with another step; ``static/components/tabs.js`` has the same."""

APP: Final = "app.js"

OTHER_LINKS: Final = (("Metrics", "/metrics"), ("Readiness", "/readyz"), ("Models as JSON", "/admin/v1/models"))


def render(
    request: Request,
    facts: GatewayFacts,
    page: Page,
    *,
    csrf: str = "",
    script: str | None = APP,
    view: str = "",
    has_tabs: bool = True,
) -> bytes:
    """Return a page with its frame as HTML; ``csrf`` is the token of the session, "" without one. ``script`` is
    the module that the page loads; the console's own takes over the content of a page that it has a view for. The page
    of a model ``has_tabs``."""
    params = path_parameters(request) if has_tabs else {}
    body = _render_body(request, facts, page, params, csrf)
    html = render_element(
        "html",
        _render_head(request, page, _render_scripts(request, script, view)),
        body,
        **_root_attributes(request, csrf),
    )
    return f"<!doctype html>\n{html}\n".encode(errors="replace")


def _root_attributes(request: Request, csrf: str) -> dict[str, str | None]:
    return {
        "lang": "en",
        "data-base": base_of(request),
        "data-static": static_href(request, ""),
        "data-csrf": csrf or None,
    }


def _render_head(request: Request, page: Page, scripts: Markup | None) -> Markup:
    return render_element(
        "head",
        render_element("meta", charset="utf-8"),
        render_element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        render_element("meta", name="color-scheme", content="light dark"),
        render_element("title", f"{page.title} · Penstock"),
        render_element("link", rel="icon", type="image/svg+xml", href=static_href(request, "icon.svg")),
        render_element("link", rel="stylesheet", href=static_href(request, "style.css")),
        render_element("script", src=static_href(request, "theme.js")),
        scripts,
    )


def _render_scripts(request: Request, script: str | None, view: str) -> Markup | None:
    """Return the script of a page, and all modules that it and the page's view import: they are loaded at once, not one
    after the other."""
    if script is None:
        return None
    files = static_files()
    loaded = dict.fromkeys((*files.modules_of(script), *files.modules_of(view)))
    preloads = (render_element("link", rel="modulepreload", href=static_href(request, name)) for name in loaded)
    return join(*preloads, render_element("script", type="module", src=static_href(request, script)))


def _render_body(request: Request, facts: GatewayFacts, page: Page, params: Mapping[str, str], csrf: str) -> Markup:
    first = render_element("div", _render_heading(request, page, params), page.body, id="first-paint")
    main = render_element("main", first, render_element("div", id="app"), id="main", tabindex=-1)
    skip = render_element("a", "Skip to the content", class_="skip", href="#main")
    live_region = render_element("div", id="announcements", class_="hidden", aria_live="polite")
    return render_element(
        "body",
        skip,
        _render_header(request, csrf),
        main,
        _render_footer(request, facts),
        live_region,
        render_element("div", id="dialogs"),
    )


def _render_header(request: Request, csrf: str) -> Markup:
    path = request.url.path
    items = (_place(request, *place, is_here=path.startswith(place[1])) for place in PLACES)
    brand = render_element("a", "Penstock", class_="brand", href=make_href(request, "/console/models"))
    navigation = render_element("nav", render_element("ul", *items), aria_label="Console")
    return render_element(
        "header", brand, navigation, render_element("div", _render_caller(request, csrf), id="status"), class_="top"
    )


def _place(request: Request, title: str, path: str, keys: str, *, is_here: bool) -> Markup:
    content = join(title, " ", render_element("kbd", keys, aria_hidden="true"))
    current = "page" if is_here else None
    return render_element("li", render_element("a", content, href=make_href(request, path), aria_current=current))


def _render_caller(request: Request, csrf: str) -> Markup | None:
    caller: Caller | None = request.scope.get("caller")  # None in a page for an error, before the caller is known
    if caller is None or not caller.is_proven:
        return None
    return join(render_element("span", f"Signed in as {caller.name}"), _sign_out(request, csrf) if csrf else None)


def _sign_out(request: Request, csrf: str) -> Markup:
    hidden = render_element("input", type="hidden", name="csrf", value=csrf)
    button = render_element("button", "Sign out", class_="button quiet")
    return render_element("form", hidden, button, method="post", action=make_href(request, "/console/sign-out"))


def _render_heading(request: Request, page: Page, params: Mapping[str, str]) -> Markup:
    model = params.get("model", "")
    if not model:
        return render_element("h1", page.title)
    here = request.url.path.rstrip("/").removeprefix(f"/console/models/{model}").strip("/").partition("/")[0]
    tabs = (
        _render_tab(request, model, name, title, is_here=name == BELOW.get(here, here)) for name, title in TABS.items()
    )
    return join(
        render_element("h1", page.title),
        render_element("nav", render_element("ul", *tabs), class_="tabs", aria_label="Model"),
    )


def _render_tab(request: Request, model: str, name: str, title: str, *, is_here: bool) -> Markup:
    address = make_href(request, model_path(model, *([name] if name else [])))
    return render_element("li", render_element("a", title, href=address, aria_current="page" if is_here else None))


def _render_footer(request: Request, facts: GatewayFacts) -> Markup:
    links = [join(" · ", render_element("a", title, href=make_href(request, path))) for title, path in OTHER_LINKS]
    text = join(
        f"Penstock {facts.version} · REST ",
        render_element("code", facts.http),
        " · gRPC ",
        render_element("code", facts.grpc),
    )
    return render_element("footer", render_element("p", text, *links), render_element("div", id="keys"))
