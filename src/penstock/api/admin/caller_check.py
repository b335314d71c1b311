"""Finds out who sends each request to the ops port, and refuses what they may not do, before anything is routed.

Behind it, ``scope["caller"]`` is a ``Caller``; ``visible_models`` says what lists may show it.
"""

import hmac
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.api.admin.answers import error_response
from penstock.api.admin.session_cookie import CSRF_FIELD, find_session_ids
from penstock.control.access.sessions import Session, Sessions
from penstock.core.access.attempts import FailedAttempts, address_key
from penstock.core.access.callers import ANONYMOUS, OWNER, Caller, CallerKind
from penstock.core.access.decisions import permissions_text, refusal_of
from penstock.core.access.endpoints import ANY_CALLER, Requirement
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter, filter_of
from penstock.core.access.ops_endpoints import ADMINISTER_ALL, requirement_of
from penstock.core.access.origins import SAFE_METHODS
from penstock.core.access.permissions import Permission
from penstock.core.access.refusals import Refusal, RefusalReason
from penstock.core.errors import Fault, Overloaded, Unauthenticated, Unauthorised
from penstock.engine.confinement.confine import is_confined

log = logging.getLogger("penstock.control")

ROOT_UID = 0

NOBODY: Final = Caller("anonymous", CallerKind.ANONYMOUS)
"""The caller of a public endpoint without a valid credential, where authentication is on."""

TOO_MANY: Final = "too many credentials from this address were not valid; try again later"
WITHOUT_CSRF: Final = "a change by a session needs its token in the header penstock-csrf; load the page again"


class OpsAuthenticator(Protocol):
    """Knows the callers of an access table (see ``control.access.authenticator``)."""

    @property
    def enabled(self) -> bool:
        """Whether callers need a credential."""

    @property
    def dry_run(self) -> bool:
        """Whether refusals are only counted."""

    def authenticate(self, authorization: bytes | None, certificate_names: tuple[str, ...] = ()) -> Caller:
        """Return the caller of a request; raises ``Unauthenticated``, whose ``detail`` is the ``RefusalReason``."""


class RefusalSink(Protocol):
    """Counts refusals."""

    def count_auth_refusal(self, reason: RefusalReason, dry_run: bool) -> None:
        """Count a refused request, or with ``dry_run`` one that would be refused."""

    def record_refusal(self, refusal: Refusal) -> None:
        """Record a refused request in the audit; never waits or raises."""


class NoRefusals:
    """Counts nothing."""

    def count_auth_refusal(self, reason: RefusalReason, dry_run: bool) -> None:
        """See ``RefusalSink``."""

    def record_refusal(self, refusal: Refusal) -> None:
        """See ``RefusalSink``."""


class CallerCheck:
    """Identifies the callers of an application with these routes, and checks their permissions.

    A process that connects to the owner's socket as the gateway's own user, or as root, is the owner, unless it sends a
    credential or runs models: the kernel notes the user of each end of a unix socket (SO_PEERCRED), and the confinement
    of a process. Every other caller needs a credential, or is anonymous where authentication is off (``authenticator``
    None). The credential is the field ``authorization``, or that of the session of a browser. Unsafe methods by a
    session also need its token, because a browser may send its cookie with requests of other pages. The requirement is
    that of the very route that will answer, so no spelling of a path reaches an endpoint by another requirement than
    its own.

    Raises:
        ValueError: a route has no requirement.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[Route] = (),
        authenticator: OpsAuthenticator | None = None,
        refusals: RefusalSink | None = None,
        clock: Callable[[], float] = monotonic,
        error_page: Callable[[Request, Fault], Response | None] = lambda _, __: None,
        sessions: Sessions | None = None,
    ) -> None:
        check_complete(routes)
        self._app = app
        self._routes = routes
        self._authenticator = authenticator
        self._refusals = refusals or NoRefusals()
        self._clock = clock
        self._error_page = error_page
        self._sessions = sessions or Sessions(clock)
        self._attempts = FailedAttempts()
        self._owners = frozenset({ROOT_UID, os.geteuid()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except Fault as fault:
                answer = self._error_page(Request(scope), fault) or error_response(fault)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Set the caller of a request; raises a ``Fault`` if it may not do what it asks for."""
        requirement, parameters = self._find(scope)
        scope["sign_in"] = partial(self._sign_in, scope)
        scope["end_session"] = partial(self._end_session, scope)
        caller = scope["caller"] = self._identify(scope, requirement)
        self._check_token(scope, requirement)
        self._check(scope, caller, requirement, parameters.get("model", ""))
        scope["visible"] = EVERY_MODEL if self._dry_run else filter_of(caller.grants, Permission.READ)
        scope["is_still_valid"] = partial(self._is_still_valid, scope, caller)
        scope["dry_run"] = self._dry_run
        scope["note_refusal"] = partial(self._note, scope, caller, "a permission that the endpoint checks")

    def _check(self, scope: Scope, caller: Caller, requirement: Requirement, model: str) -> None:
        """Raise the refusal of a caller without the permission; where refusals are only counted, count it."""
        refusal = refusal_of(caller, requirement, model)
        if refusal is not None:
            self._note(scope, caller, permissions_text(requirement))
            if not self._dry_run:
                raise refusal

    def _check_token(self, scope: Scope, requirement: Requirement) -> None:
        """Raise ``Unauthorised`` if a session makes a change without its token; public endpoints check it apart."""
        session: Session | None = scope.get("session")
        if session is None or requirement.public or scope["method"].encode() in SAFE_METHODS:
            return
        stated = b",".join(value for name, value in scope["headers"] if name == CSRF_FIELD)
        if not hmac.compare_digest(stated, session.csrf.encode()):
            self._note(scope, scope["caller"], "the token of its session")
            raise Unauthorised(WITHOUT_CSRF)

    def _note(self, scope: Scope, caller: Caller, detail: str) -> None:
        """Count and record the refusal of a caller without a permission; a dry run only counts."""
        self._refusals.count_auth_refusal(RefusalReason.NOT_PERMITTED, self._dry_run)
        if not self._dry_run:
            self._record("access.refuse", scope, caller, detail)

    def _record(self, action: str, scope: Scope, caller: Caller, detail: str) -> None:
        """Record a refused request, or a sign-in, in the audit."""
        address = address_key(scope.get("client"))
        self._refusals.record_refusal(Refusal(action, caller.name, caller.kind.value, caller.key_id, address, detail))

    @property
    def _dry_run(self) -> bool:
        return self._authenticator is not None and self._authenticator.dry_run

    def _find(self, scope: Scope) -> tuple[Requirement, Mapping[str, str]]:
        """Return what the route that will answer requires; of no route: a credential, to learn that there is none."""
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                parameters: dict[str, str] = found["path_params"]
                return requirement_of(scope["method"], route.path, parameters) or ADMINISTER_ALL, parameters
        return ANY_CALLER, {}

    def _identify(self, scope: Scope, requirement: Requirement) -> Caller:
        enabled = self._authenticator is not None and self._authenticator.enabled
        peer: tuple[int, int] | None = scope.get("state", {}).get("peer")
        stated = enabled and find_authorization(scope["headers"])
        if peer is not None and self._is_owner(*peer) and not stated:
            return OWNER
        if not enabled:
            return ANONYMOUS
        try:
            return self._limit_failures(scope, partial(self._check_credential, scope))
        except Fault as fault:
            return NOBODY if requirement.public else self._refuse(scope, fault)

    def _is_owner(self, pid: int, uid: int) -> bool:
        return uid in self._owners and not is_confined(pid)

    def _refuse(self, scope: Scope, fault: Fault) -> Caller:
        """Raise the refusal of a credential; where refusals are only counted, return the caller as anonymous."""
        reason = RefusalReason(fault.detail) if fault.detail else RefusalReason.TOO_MANY_ATTEMPTS
        self._refusals.count_auth_refusal(reason, self._dry_run)
        if self._dry_run:
            return ANONYMOUS
        self._record("auth.refuse", scope, NOBODY, reason.value)
        raise fault

    def _limit_failures(self, scope: Scope, check: Callable[[], Caller]) -> Caller:
        """Return the caller that a check of a credential gives.

        Raises:
            Unauthenticated: there is no valid credential.
            Overloaded: the same, and the address has failed too often.
        """
        try:
            return check()
        except Unauthenticated as fault:
            if fault.detail == RefusalReason.NO_CREDENTIAL:
                raise
            address, now_s = address_key(scope.get("client")), self._clock()
            wait_s = self._attempts.wait_s(address, now_s)
            self._attempts.add(address, now_s)
            if wait_s:
                raise Overloaded(TOO_MANY, wait_s) from None
            raise

    def _check_credential(self, scope: Scope) -> Caller:
        if self._authenticator is None:
            return ANONYMOUS
        names: tuple[str, ...] = scope.get("state", {}).get("certificate_names", ())
        stated = find_authorization(scope["headers"])
        session_id, session = ("", None) if stated is not None else self._find_session(scope)
        scope["session"] = session
        try:
            return self._authenticator.authenticate(stated if session is None else session.authorization, names)
        except Unauthenticated:
            self._sessions.end(session_id)  # a session ends with its credential
            raise

    def _find_session(self, scope: Scope) -> tuple[str, Session | None]:
        """Return the session of a request with its id; ("", None) without a valid one."""
        for session_id in find_session_ids(scope):
            if (session := self._sessions.find(session_id)) is not None:
                return session_id, session
        return "", None

    def _sign_in(self, scope: Scope, authorization: bytes) -> str:
        """Begin a session for a credential and return its id; raises as a request with that credential."""
        authenticator = self._authenticator
        if authenticator is None:
            raise Unauthorised("this gateway has no authentication; nobody needs to sign in")
        try:
            caller = self._limit_failures(scope, lambda: authenticator.authenticate(authorization))
        except Fault as fault:
            self._refuse(scope, fault)
            raise
        self._record("session.begin", scope, caller, "console")
        log.info("%s has signed in to the console", caller.name)
        return self._sessions.begin(authorization)

    def _end_session(self, scope: Scope) -> None:
        for session_id in find_session_ids(scope):
            self._sessions.end(session_id)

    def _is_still_valid(self, scope: Scope, caller: Caller) -> bool:
        if not caller.is_proven or caller.kind is CallerKind.OWNER:
            return True
        try:
            return self._check_credential(scope) == caller
        except Unauthenticated:
            return False


def find_authorization(fields: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Return the field ``authorization`` of a request, None without one; of several, what never is a valid one."""
    found = [value for name, value in fields if name == b"authorization"]
    return b",".join(found) if found else None


def check_complete(routes: Sequence[Route]) -> None:
    """Check that every method of every route has a requirement; raises ``ValueError``."""
    for route in routes:
        for method in sorted(route.methods or ()):
            if requirement_of(method, route.path, {}) is None:
                raise ValueError(f"{method} {route.path} has no requirement; add it to core/access/ops_endpoints.py")


def caller_of(request: Request) -> Caller:
    """Return who sent a request."""
    caller: Caller = request.scope["caller"]
    return caller


def visible_models(request: Request) -> ModelFilter:
    """Return the models that lists may show to the caller."""
    visible: ModelFilter = request.scope["visible"]
    return visible


def session_of(request: Request) -> Session | None:
    """Return the session that the request belongs to, None for a request by another credential."""
    session: Session | None = request.scope.get("session")
    return session


def sign_in(request: Request, authorization: bytes) -> str:
    """Begin a session for the credential in a field ``authorization``; return its id. Failures count as those of any
    request.

    Raises:
        Unauthenticated: the credential is not valid.
        Overloaded: the same, and the address has failed too often.
        Unauthorised: there is no authentication.
    """
    begin: Callable[[bytes], str] = request.scope["sign_in"]
    return begin(authorization)


def end_session(request: Request) -> None:
    """End the session of a request, if it has one."""
    end: Callable[[], None] = request.scope["end_session"]
    end()


def is_dry_run(request: Request) -> bool:
    """Whether refusals are only counted."""
    return bool(request.scope["dry_run"])


def note_refusal(request: Request) -> None:
    """Count that the caller lacks a permission which only the endpoint knows of."""
    note: Callable[[], None] = request.scope["note_refusal"]
    note()


def is_still_valid(request: Request) -> bool:
    """Whether the credential of a request is still accepted, and its caller may do the same as when it came."""
    check: Callable[[], bool] = request.scope["is_still_valid"]
    return check()
