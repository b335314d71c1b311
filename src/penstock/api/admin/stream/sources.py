"""Where the documents of a stream's topics come from: each is that of the GET call of its name, but for the timeline,
whose pages are fetched when its document changes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from penstock.api.admin.admin import RegistryService
from penstock.api.admin.readiness import readiness_document
from penstock.api.admin.stream.feeds import LoadDocument
from penstock.api.admin.stream.topics import Topic
from penstock.api.admin.traffic import TrafficApi
from penstock.control.reconcile.status import Readiness
from penstock.monitor.shown_columns import ShownColumns

Document = Mapping[str, Any]

SHOWN_COLUMNS: Final = 24
"""The most columns of the monitor's document: a model may have hundreds."""


class StreamedControl(Protocol):
    """The control plane as the stream uses it; no call waits."""

    def readiness(self) -> Readiness:
        """Return whether the gateway takes requests."""

    def process_document(self) -> dict[str, Any]:
        """Return the workers, and the periodic tasks of all processes."""


def load_by(control: StreamedControl, registry_admin: RegistryService, services: TrafficApi) -> LoadDocument:
    """Return the function that loads the document of any topic other than the events; it may raise a ``Fault``."""
    lists, one = _list_loaders(control, registry_admin, services), _of_model(registry_admin, services)

    async def load(topic: Topic) -> Document:
        return await (one[topic.kind](topic.model) if topic.model else lists[topic.kind]())

    return load


def _list_loaders(
    control: StreamedControl, registry_admin: RegistryService, services: TrafficApi
) -> dict[str, Callable[[], Awaitable[Document]]]:
    async def models() -> Document:
        return {"models": await registry_admin.models()}

    async def traffic() -> Document:
        return services.recent.document()

    async def readiness() -> Document:
        return readiness_document(control.readiness(), is_reader=True)

    async def workers() -> Document:
        return control.process_document()

    async def timeline() -> Document:
        return {"models": await services.traffic.newest_entries()}

    return {
        "models": models,
        "overview": services.overview.document,
        "traffic": traffic,
        "readiness": readiness,
        "fleet": services.fleet.document,
        "workers": workers,
        "timeline": timeline,
    }


def _of_model(registry_admin: RegistryService, services: TrafficApi) -> dict[str, Callable[[str], Awaitable[Document]]]:
    async def traffic(model: str) -> Document:
        return services.recent.model_document(model)

    async def rollouts(model: str) -> Document:
        return {"rollouts": await services.rollouts.list_trials(model)}

    async def experiments(model: str) -> Document:
        return {"experiments": await services.experiments.list_trials(model)}

    async def monitor(model: str) -> Document:
        return await services.monitor.document(model, None, shown=ShownColumns(SHOWN_COLUMNS))

    return {
        "model": registry_admin.model,
        "traffic": traffic,
        "route": services.traffic.route,
        "rollouts": rollouts,
        "experiments": experiments,
        "monitor": monitor,
        "retraining": services.retraining.document,
    }
