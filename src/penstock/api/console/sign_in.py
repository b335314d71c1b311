"""Signing in by an API key or a token, and out again: the pages that begin and end the session of a browser."""

import re
from typing import Final
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.api.admin.caller_check import caller_of, end_session, session_of, sign_in
from penstock.api.admin.incoming import read_chunks
from penstock.api.admin.session_cookie import clear_cookies, set_cookie
from penstock.api.console.links import HOME, base_of, make_href
from penstock.api.console.markup import Markup, join, render_element
from penstock.api.console.services import GatewayFacts, Page
from penstock.api.console.shell import render
from penstock.core.access.permissions import EVERYTHING
from penstock.core.errors import Fault, InvalidInput, Overloaded, Unauthenticated, Unauthorised
from penstock.core.labels import HTTP_STATUS

PATH: Final = "/console/sign-in"
FORM_BYTES: Final = 16 << 10
MOST_FIELDS: Final = 8
FORM_TYPE: Final = "application/x-www-form-urlencoded"

_TARGET: Final = re.compile(r"(?!.*(?://|\\|(?:\.|%2[eE]){2}))/console/(?!sign-)[\x21-\x7e]{0,2000}", re.ASCII)
"""Where a sign-in may lead: a path of the console and nothing that leaves it."""


def sign_in_routes(facts: GatewayFacts) -> list[Route]:
    """Return the routes for signing in and out."""
    pages = _SignIn(facts)
    return [
        Route(PATH, pages.show, methods=["GET"]),
        Route(PATH, pages.enter, methods=["POST"]),
        Route("/console/sign-out", pages.leave, methods=["POST"]),
    ]


class _SignIn:
    """One method for each route."""

    def __init__(self, facts: GatewayFacts) -> None:
        self._facts = facts

    async def show(self, request: Request) -> Response:
        target = choose_target(request.query_params.get("next", ""))
        caller = caller_of(request)
        if caller.is_proven or caller.grants == EVERYTHING:  # signed in, or nobody needs to
            return RedirectResponse(base_of(request) + target.removeprefix("/"), 303)
        return self._page(request, target)

    async def enter(self, request: Request) -> Response:
        form = await read_form(request)
        target = choose_target(form.get("next", ""))
        credential = form.get("credential", "").strip()
        try:
            session_id = sign_in(request, b"Bearer " + credential.encode("ascii", "replace"))
        except Fault as fault:
            return self._page(request, target, fault)
        headers = {"set-cookie": set_cookie(request.scope, session_id)}
        return RedirectResponse(base_of(request) + target.removeprefix("/"), 303, headers)

    async def leave(self, request: Request) -> Response:
        form, session = await read_form(request), session_of(request)
        if session is not None and form.get("csrf") != session.csrf:
            raise Unauthorised("the page is of another session; load it again, and sign out then")
        end_session(request)
        answer = RedirectResponse(make_href(request, PATH), 303)
        for field in clear_cookies():
            answer.headers.append("set-cookie", field)
        return answer

    def _page(self, request: Request, target: str, fault: Fault | None = None) -> Response:
        status = 200 if fault is None else HTTP_STATUS[fault.kind]
        headers = {"www-authenticate": "Bearer"} if isinstance(fault, Unauthenticated) else {}
        if isinstance(fault, Overloaded):
            headers["retry-after"] = str(max(1, round(fault.retry_after_s)))
        page = Page("Sign in", _render_form(request, target, fault))
        content = render(request, self._facts, page, script=None if fault else "sign-in.js")
        return Response(content, status, headers, "text/html")


def sign_in_first(request: Request) -> Response:
    """Return the response that leads a browser without a valid credential to the page for signing in, and back."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    query = request.url.query
    here = raw.partition(b"?")[0].decode("ascii", "replace") + (f"?{query}" if query else "")
    target = choose_target(here)
    return RedirectResponse(make_href(request, PATH, {} if target == HOME else {"next": target}), 303)


def choose_target(text: str) -> str:
    """Return where to go after signing in: a path of the console, the models for anything else."""
    return text if _TARGET.fullmatch(text) else HOME


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form, of several of a name the last.

    Raises:
        InvalidInput: the body is not a form.
        TooLarge: it is longer than 16 KiB.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise InvalidInput(f"the body must be a form: {FORM_TYPE}")
    body = b"".join([chunk async for chunk in read_chunks(request, FORM_BYTES)])
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise InvalidInput("the form cannot be read") from None
    return {name: values[-1] for name, values in fields.items()}


def _render_form(request: Request, target: str, fault: Fault | None) -> Markup:
    label = render_element("label", "API key or token", _render_field(fault), class_="field")
    button = render_element("button", "Sign in", class_="button primary")
    hidden = render_element("input", type="hidden", name="next", value=target)
    form = render_element(
        "form", hidden, label, button, method="post", action=make_href(request, PATH), class_="card narrow"
    )
    how = (
        "Use an API key (penstock keys create) or a token of your identity provider. It stays in the gateway's memory."
    )
    return join(_render_refusal(fault), form, render_element("p", how, class_="muted small"))


def _render_field(fault: Fault | None) -> Markup:
    return render_element(
        "input",
        type="password",
        name="credential",
        autocomplete="current-password",
        required=True,
        autofocus=True,
        spellcheck="false",
        aria_invalid="true" if fault else None,
        aria_describedby="refusal" if fault else None,
    )


def _render_refusal(fault: Fault | None) -> Markup | None:
    if fault is None:
        return None
    text = "This key or token is not valid." if isinstance(fault, Unauthenticated) else f"{fault}."
    return render_element("div", render_element("p", text), class_="note bad", role="alert", id="refusal")
