"""What one credential may do on the data ports, kept with the remembered request heads that carry it."""

from typing import Final

from penstock.core.access.callers import Caller
from penstock.core.access.endpoints import Requirement, Scope
from penstock.core.access.permissions import Permission
from penstock.core.errors import Fault, Unauthorised, unknown_model
from penstock.serving.access.caller_quota import CallerQuota
from penstock.serving.access.refused_requests import RefusedRequests

MOST_MODELS: Final = 1024
"""Names of models whose decisions are kept; clients choose the names."""

NEVER_NS: Final = 1 << 62


class CallerAccess:
    """A caller under one access table. ``refusal`` is set if the credential is not accepted; then only public endpoints
    answer. ``quota`` is what each request of the caller has to be admitted by, if there is one.

    It may be used while ``is_current``: ``epoch`` counts the access tables of the worker, and from ``valid_until_ns``
    (``time.monotonic_ns``) on the credential has to be looked at again. With ``dry_run``, what would be refused is only
    counted. Belongs to the event loop.
    """

    __slots__ = (
        "_dry_run",
        "_may_predict",
        "_predicts_all",
        "_refusals",
        "caller",
        "epoch",
        "quota",
        "refusal",
        "valid_until_ns",
    )

    def __init__(
        self,
        caller: Caller,
        epoch: int,
        valid_until_ns: int,
        refusals: RefusedRequests,
        dry_run: bool = False,
        refusal: Fault | None = None,
        quota: CallerQuota | None = None,
    ) -> None:
        self.caller = caller
        self.quota = quota
        self.epoch = epoch
        self.valid_until_ns = valid_until_ns
        self.refusal = refusal
        self._refusals = refusals
        self._dry_run = dry_run
        self._predicts_all: bool = refusal is None and caller.may_everywhere(Permission.PREDICT)
        self._may_predict: dict[str, bool] = {}

    def is_current(self, epoch: int, now_ns: int) -> bool:
        """Whether it may be used under the access table of this epoch, at this time (``time.monotonic_ns``)."""
        return self.epoch == epoch and now_ns < self.valid_until_ns

    def check_predict(self, model: str) -> None:
        """Raise what ``check`` raises for a prediction by a model; cheap, as each request asks."""
        if not self._predicts_all and not self._may_predict.get(model, False):
            self._learn_predict(model)

    def _learn_predict(self, model: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        if not self.caller.may(Permission.PREDICT, model):
            self._refuse(_PREDICT, Scope.MODEL, model)
            return
        if len(self._may_predict) >= MOST_MODELS:
            self._may_predict.clear()
        self._may_predict[model] = True

    def check(self, requirement: Requirement, model: str = "") -> None:
        """Check that the caller may use an endpoint; ``model`` is the one that the request names.

        Raises:
            Unauthenticated: the credential is not accepted, and the endpoint is not public.
            NotFound: the caller may not know whether this model exists.
            Unauthorised: the caller does not have the permission.
        """
        if requirement.public:
            return
        if self.refusal is not None:
            raise self.refusal
        if requirement.permissions and not self._has_any(requirement, model):
            self._refuse(requirement.permissions, requirement.scope, model)

    def sees(self, model: str) -> bool:
        """Whether lists show a model to the caller."""
        caller = self.caller
        return self._dry_run or caller.may(Permission.READ, model) or caller.may(Permission.PREDICT, model)

    def reads(self, model: str) -> bool:
        """Whether lists show the caller what only readers of a model may see."""
        return self._dry_run or self.caller.may(Permission.READ, model)

    def _has_any(self, requirement: Requirement, model: str) -> bool:
        caller, scope = self.caller, requirement.scope
        for permission in requirement.permissions:
            if scope is Scope.MODEL:
                has = caller.may(permission, model)
            elif scope is Scope.SOME_MODEL:
                has = caller.may_anywhere(permission)
            else:
                has = caller.may_everywhere(permission)
            if has:
                return True
        return False

    def _refuse(self, permissions: frozenset[Permission], scope: Scope, model: str) -> None:
        needed = " or ".join(sorted([f"'{permission}'" for permission in permissions]))
        self._refusals.count_permission(self._dry_run, self.caller, needed)
        if self._dry_run:
            return
        if scope is Scope.MODEL and not self.sees(model):
            raise unknown_model(model)
        raise Unauthorised(f"the caller needs the permission {needed} for {_SCOPES[scope]}")


_PREDICT: Final = frozenset({Permission.PREDICT})
_SCOPES: Final = {Scope.MODEL: "this model", Scope.SOME_MODEL: "a model", Scope.ALL_MODELS: "all models"}
