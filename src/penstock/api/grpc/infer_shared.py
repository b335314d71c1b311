"""State that all inference requests of one gRPC server share: cached layouts, and the parts of answers."""

from dataclasses import dataclass

from penstock.api.common.response_metadata import MadeOncePerVersion, answered_by
from penstock.api.common.work import RequestWork
from penstock.api.grpc import response_blocks
from penstock.api.grpc.decode import InferMessage, decode_message
from penstock.api.grpc.encode import GrpcAnswerTemplate, answer_parameters
from penstock.api.grpc.framing import PREFIX
from penstock.api.grpc.http2.answer_memory import CONNECTION_SHARE, SPARE_BYTES
from penstock.api.grpc.http2.header_encoding import encode_literal
from penstock.api.grpc.layout_cache import LayoutCache
from penstock.api.grpc.message_form import AnswerTemplate, MessageForm
from penstock.api.grpc.stream_window import UNKNOWN, AnswerSizes
from penstock.api.grpc.wire import ParsedRequest, parse_request, target_of
from penstock.core.labels import Route
from penstock.core.limits import MAX_BODY_SETTING, MEMORY_SETTING, RequestLimits
from penstock.core.slices import PauseWork
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import Servable
from penstock.serving.shared_memory import SharedRegions


@dataclass(frozen=True, slots=True)
class VersionAnswers:
    """The constant parts of the answers of one version, and their sizes. By route: version and route as header fields,
    as a complete header block, and as parameters of a streamed answer."""

    template: AnswerTemplate
    sizes: AnswerSizes
    facts: tuple[bytes, ...]
    blocks: tuple[bytes, ...]
    parameters: tuple[bytes, ...]


class ModelInferForm(MessageForm):
    """ModelInferRequest and ModelInferResponse, the messages of the V2 protocol."""

    def __init__(self) -> None:
        super().__init__(caches_layouts=True)

    def parse(self, raw: bytes, pause: PauseWork | None) -> ParsedRequest:
        """See ``MessageForm``."""
        return parse_request(raw, pause)

    def decode(
        self, parsed: ParsedRequest, loaded: Servable, regions: SharedRegions, work: RequestWork, owner: str
    ) -> InferMessage:
        """See ``MessageForm``."""
        return decode_message(parsed, loaded.signature, regions, work, owner)

    def template(self, loaded: Servable, limits: RequestLimits) -> AnswerTemplate:
        """See ``MessageForm``."""
        return GrpcAnswerTemplate(loaded.identity.model, loaded.identity.version, limits)


class InferContext:
    """One for each inference method of a server, whose messages have this ``form``; runs on its event loop. With
    ``mirrors_typed``, typed requests get typed contents, others raw ones. ``max_message_bytes`` limits a message;
    ``message_setting`` is the name of that limit. ``endpoint`` is the method with its service, "" for ModelInfer."""

    def __init__(
        self,
        plane: DataPlane,
        max_message_bytes: int,
        mirrors_typed: bool,
        form: MessageForm | None = None,
        endpoint: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.plane = plane
        self.form: MessageForm = ModelInferForm() if form is None else form
        most = max(SPARE_BYTES, plane.memory.limit // CONNECTION_SHARE - PREFIX)
        self.max_message_bytes = min(max_message_bytes, most)
        self.message_setting = MAX_BODY_SETTING if max_message_bytes <= most else f"half of {MEMORY_SETTING}"
        self.mirrors_typed = mirrors_typed
        self.layouts = LayoutCache()
        self.versions = MadeOncePerVersion(plane, self._version_answers)

    def _version_answers(self, loaded: Servable) -> VersionAnswers:
        by_route = [answered_by(loaded, route) for route in Route]
        facts = tuple(
            [b"".join([encode_literal(name.encode(), value.encode()) for name, value in pairs]) for pairs in by_route]
        )
        return VersionAnswers(
            self.form.template(loaded, self.plane.limits),
            AnswerSizes(loaded),
            facts,
            tuple([response_blocks.GRPC + fact for fact in facts]),
            tuple([_encode_parameters(pairs) for pairs in by_route]),
        )

    def expected_answer_bytes(self, raw: bytes) -> int:
        """Return the expected size of the answer to a message; see ``AnswerSizes``."""
        target = target_of(raw)
        route = None if target is None else self.plane.routing_table.routes.get(target)
        return UNKNOWN if route is None else self.versions.get(route[0]).sizes.expected(len(raw))


def _encode_parameters(pairs: tuple[tuple[str, str], ...]) -> bytes:
    return answer_parameters({name: pb.InferParameter(string_param=value) for name, value in pairs})
