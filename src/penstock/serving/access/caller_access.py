"""What one credential may do on the data ports, kept with the remembered request heads that carry it."""

from collections.abc import Callable
from typing import Final

from penstock.core.access.attempts import address_key
from penstock.core.access.callers import Caller
from penstock.core.access.decisions import may_know, permissions_text, refusal_of
from penstock.core.access.endpoints import PREDICT, Requirement
from penstock.core.access.permissions import Permission
from penstock.core.errors import Fault
from penstock.serving.access.caller_quota import CallerQuota
from penstock.serving.access.refused_requests import RefusedRequests

MOST_MODELS: Final = 1024
"""Names of models whose decisions are kept; clients choose the names."""

NEVER_NS: Final = 1 << 62

Info = Callable[[str], object]
"""Returns what a transport knows by name (see ``asyncio.BaseTransport.get_extra_info``)."""


def no_info(_: str) -> object:
    """Return nothing: the connection is not known."""
    return None


class CallerAccess:
    """A caller under one access table. ``refusal`` is set if the credential is not accepted; then only public endpoints
    answer. ``quota`` is what each request of the caller has to be admitted by, if there is one. ``owner`` is the caller
    as the owner of shared memory regions: the kind and the name, or "" for everybody where nobody needs a credential.

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
        "owner",
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
        is_known = caller.is_proven and not dry_run  # a dry run refuses nothing
        self.owner: str = f"{caller.kind.value}:{caller.name}" if is_known else ""
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

    def check_predict(self, model: str, info: Info) -> None:
        """Raise what ``check`` raises for a prediction by a model; cheap, as each request asks. ``info`` is that of the
        client's connection."""
        if not self._predicts_all and not self._may_predict.get(model, False):
            self._learn_predict(model, info)

    def _learn_predict(self, model: str, info: Info) -> None:
        if not self._is_allowed(PREDICT, model, info):
            return
        if len(self._may_predict) >= MOST_MODELS:
            self._may_predict.clear()
        self._may_predict[model] = True

    def check(self, requirement: Requirement, model: str, info: Info) -> None:
        """Check that the caller may use an endpoint; ``model`` is the one that the request names ("": none), and
        ``info`` that of the client's connection.

        Raises:
            Unauthenticated: the credential is not accepted, and the endpoint is not public.
            NotFound: the caller may not know whether this model exists.
            Unauthorised: the caller does not have the permission.
        """
        if not requirement.public:
            self._is_allowed(requirement, model, info)

    def sees(self, model: str) -> bool:
        """Whether lists show a model to the caller."""
        return self._dry_run or may_know(self.caller, model)

    def reads(self, model: str) -> bool:
        """Whether lists show the caller what only readers of a model may see."""
        return self._dry_run or self.caller.may(Permission.READ, model)

    def _is_allowed(self, requirement: Requirement, model: str, info: Info) -> bool:
        """Whether the caller has the permission; raises the refusal if not, unless refusals are only counted."""
        if self.refusal is not None:
            raise self.refusal
        refusal = refusal_of(self.caller, requirement, model)
        if refusal is None:
            return True
        address = address_key(info("peername"))
        self._refusals.count_permission(self._dry_run, self.caller, permissions_text(requirement), address)
        if not self._dry_run:
            raise refusal
        return False
