"""What each endpoint of the ops port requires: one table, which tests hold complete."""

from collections.abc import Mapping
from typing import Final

from penstock.core.access.endpoints import (
    ANY_CALLER,
    OPERATE,
    OPERATE_ALL,
    PREDICT,
    PUBLIC,
    READ,
    READ_ALL,
    READ_SOME,
    Requirement,
    Scope,
)
from penstock.core.access.permissions import Permission

PUSH: Final = Requirement(frozenset({Permission.PUSH}), Scope.MODEL)
APPROVE: Final = Requirement(frozenset({Permission.APPROVE}), Scope.MODEL)
ADMINISTER_SOME: Final = Requirement(frozenset({Permission.ADMINISTER}), Scope.SOME_MODEL)
ADMINISTER_ALL: Final = Requirement(frozenset({Permission.ADMINISTER}), Scope.ALL_MODELS)
METRICS_ALL: Final = Requirement(frozenset({Permission.METRICS}), Scope.ALL_MODELS)

SIGNED: Final = PUBLIC
"""A call whose signature is its credential; the endpoint checks it."""

SIGNED_IN: Final = PUBLIC
"""A form that carries its credential, or the token of its session; the endpoint checks it."""

_MODEL: Final = "/models/{model}"
_VERSION: Final = f"{_MODEL}/versions/{{version}}"

_ADMIN: Final[Mapping[str, Requirement]] = {
    "GET /whoami": ANY_CALLER,
    "GET /keys": ADMINISTER_SOME,
    "POST /keys": ADMINISTER_SOME,
    "DELETE /keys/{name}": ADMINISTER_SOME,
    "POST /keys/{name}/rotate": ADMINISTER_SOME,
    "GET /registry": READ_SOME,
    "POST /registry/verify": OPERATE_ALL,
    "POST /registry/collect": ADMINISTER_ALL,
    "POST /erasures": ADMINISTER_ALL,
    "GET /audit": READ_SOME,
    "GET /audit/archives": READ_SOME,
    "GET /audit/archives/{name}": READ_SOME,
    "POST /audit/verify": READ_ALL,
    "GET /audit/keys": READ_SOME,
    "GET /audit/checkpoint": READ_SOME,
    "GET /audit/proofs/{seq}": READ_ALL,
    "GET /audit/export": READ_ALL,
    f"GET {_MODEL}/explanation": READ,
    "GET /events": READ_SOME,
    "GET /timeline": READ_SOME,
    "GET /fleet": READ_SOME,
    "GET /overview": READ_SOME,
    "GET /workers": READ_SOME,
    "GET /gateway": READ_SOME,
    "GET /traffic": READ_SOME,
    "GET /stream": READ_SOME,
    "POST /webhooks/mlflow": SIGNED,
    "GET /models": READ_SOME,
    f"GET {_MODEL}": READ,
    f"PUT {_VERSION}": PUSH,
    f"DELETE {_VERSION}": PUSH,
    f"GET {_VERSION}/content": READ,
    f"PUT {_VERSION}/reference": PUSH,
    f"PUT {_VERSION}/signatures": PUSH,
    f"GET {_VERSION}/gates": READ,
    f"POST {_VERSION}/approve": APPROVE,
    f"POST {_MODEL}/predict": PREDICT,
    f"POST {_MODEL}/explain": PREDICT,
    f"POST {_MODEL}/captured/explain": OPERATE,
    f"PUT {_MODEL}/aliases/{{alias}}": OPERATE,
    f"DELETE {_MODEL}/aliases/{{alias}}": OPERATE,
    f"POST {_MODEL}/rollback": OPERATE,
    f"GET {_MODEL}/settings": READ,
    f"PUT {_MODEL}/settings": OPERATE,
    f"GET {_MODEL}/traffic": READ,
    f"GET {_MODEL}/route": READ,
    f"PUT {_MODEL}/route": OPERATE,
    f"DELETE {_MODEL}/route": OPERATE,
    f"POST {_MODEL}/route/preview": READ,
    f"GET {_MODEL}/shadow/{{version}}": READ,
    f"GET {_MODEL}/rollouts": READ,
    f"POST {_MODEL}/rollouts": OPERATE,
    f"POST {_MODEL}/rollouts/preview": READ,
    f"GET {_MODEL}/rollouts/{{id}}": READ,
    f"POST {_MODEL}/rollouts/{{id}}/{{verb}}": OPERATE,
    f"POST {_MODEL}/rollouts/{{id}}/approve": APPROVE,
    f"GET {_MODEL}/experiments": READ,
    f"POST {_MODEL}/experiments": OPERATE,
    f"GET {_MODEL}/experiments/{{id}}": READ,
    f"POST {_MODEL}/experiments/{{id}}/{{verb}}": OPERATE,
    f"GET {_MODEL}/monitor": READ,
    f"GET {_MODEL}/monitor/column": READ,
    f"GET {_MODEL}/importance": READ,
    f"POST {_MODEL}/monitor/relearn": OPERATE,
    f"GET {_MODEL}/policy": READ,
    f"PUT {_MODEL}/policy": OPERATE,
    f"POST {_MODEL}/policy/check": OPERATE,
    f"POST {_MODEL}/retrain": OPERATE,
    f"GET {_MODEL}/candidates": READ,
    f"POST {_MODEL}/candidates/{{version}}/approve": APPROVE,
    f"POST {_MODEL}/candidates/{{version}}/refuse": APPROVE,
    f"GET {_MODEL}/retraining": READ,
    f"GET {_MODEL}/outbox": READ,
    f"POST {_MODEL}/outbox/replay": OPERATE,
}
"""Endpoints of the admin API by method and path, the path without what all have."""


def _with_prefix(endpoints: Mapping[str, Requirement]) -> dict[str, Requirement]:
    return {endpoint.replace(" ", " /admin/v1", 1): need for endpoint, need in endpoints.items()}


_CONSOLE_MODEL: Final = "/console/models/{model}"

_CONSOLE: Final[Mapping[str, Requirement]] = {
    "GET /": READ_SOME,
    "GET /console": READ_SOME,
    "GET /console/": READ_SOME,
    "GET /console/models": READ_SOME,
    "GET /console/fleet": READ_SOME,
    "GET /console/timeline": READ_SOME,
    "GET /console/access": ANY_CALLER,
    "GET /console/sign-in": PUBLIC,
    "POST /console/sign-in": SIGNED_IN,
    "POST /console/sign-out": SIGNED_IN,
    "GET /console/static/{digest}/{name:path}": PUBLIC,
    "GET /console/{path:path}": ANY_CALLER,
    f"GET {_CONSOLE_MODEL}": READ,
    f"GET {_CONSOLE_MODEL}/versions/{{version}}": READ,
    f"GET {_CONSOLE_MODEL}/compare": READ,
    f"GET {_CONSOLE_MODEL}/traffic": READ,
    f"GET {_CONSOLE_MODEL}/rollouts": READ,
    f"GET {_CONSOLE_MODEL}/rollouts/{{id}}": READ,
    f"GET {_CONSOLE_MODEL}/experiments/{{id}}": READ,
    f"GET {_CONSOLE_MODEL}/shadow/{{version}}": READ,
    f"GET {_CONSOLE_MODEL}/monitor": READ,
    f"GET {_CONSOLE_MODEL}/monitor/{{column:path}}": READ,
    f"GET {_CONSOLE_MODEL}/retraining": READ,
    f"GET {_CONSOLE_MODEL}/try": READ,
}
"""Pages of the console, whose static files are those of the release and show nothing of a gateway."""


OPS: Final[Mapping[str, Requirement]] = {
    "GET /livez": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /metrics": METRICS_ALL,
    "GET /runbook": PUBLIC,
    **_with_prefix(_ADMIN),
    **_CONSOLE,
}
"""Requirements by method and path template. Where a template ends in ``{verb}``, the same path with a verb in its place
comes first."""


def requirement_of(method: str, template: str, parameters: Mapping[str, str]) -> Requirement | None:
    """Return what a request to an endpoint requires, None if the table has no entry for it."""
    method = "GET" if method == "HEAD" else method
    verb = template.replace("{verb}", parameters.get("verb", ""))
    return OPS.get(f"{method} {verb}") or OPS.get(f"{method} {template}")
