"""The form of the messages of one inference method: how they become calls, and how calls become answers.

The unary path (``infer_unary``) is the same for all of them: admission, batching, deadline, trace and counts.
"""

from abc import ABC, abstractmethod

from penstock.api.common.parts import Payload
from penstock.api.common.work import RequestWork
from penstock.api.grpc.decode import InferMessage
from penstock.api.grpc.wire import ParsedRequest
from penstock.core.limits import RequestLimits
from penstock.core.slices import PauseWork
from penstock.serving.infer_call import InferCall, Servable
from penstock.serving.shared_memory import SharedRegions


class AnswerTemplate(ABC):
    """Writes the answers of one version."""

    @abstractmethod
    def answer(self, call: InferCall, typed: bool, pause: PauseWork | None = None) -> Payload:
        """Return the framed answer to a call that has its outputs; on any thread, but without a ``pause`` only on the
        event loop. ``typed`` asks for typed contents where the method has two forms.

        Raises:
            InvalidInput: the outputs have no such form.
            TooLarge: the answer is over one of the limits.
            LargeWork: it has to be written on a thread.
        """


class MessageForm(ABC):
    """Reads the requests of one method; ``caches_layouts`` says that similar ones need not be parsed."""

    def __init__(self, caches_layouts: bool) -> None:
        self.caches_layouts = caches_layouts

    @abstractmethod
    def parse(self, raw: bytes, pause: PauseWork | None) -> ParsedRequest:
        """Return the parts of a message; ``request`` of the result states the model, the version and the id.

        Raises:
            InvalidInput: the bytes are something else.
            TooLarge: the message is over one of the limits.
            LargeWork: it has to be parsed on a thread.
        """

    @abstractmethod
    def decode(
        self, parsed: ParsedRequest, loaded: Servable, regions: SharedRegions, work: RequestWork, owner: str
    ) -> InferMessage:
        """Return the tensors of a parsed message for the version that answers; ``owner`` is the caller.

        Raises:
            InvalidInput: the message contradicts the protocol or the signature.
            TooLarge: it is over one of the limits.
            Unsupported: it asks for what is not offered.
            LargeWork: it has to be decoded on a thread.
        """

    @abstractmethod
    def template(self, loaded: Servable, limits: RequestLimits) -> AnswerTemplate:
        """Return what writes the answers of a version."""
