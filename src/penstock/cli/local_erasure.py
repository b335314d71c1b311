"""Erases the rows of a subject from a home without a gateway."""

from penstock.cli.client import Document
from penstock.control.privacy.erasures import ErasureWork, erasure_result
from penstock.control.privacy.home_erasure import HomeErasure
from penstock.core.erasure import SubjectKey
from penstock.monitor.answer_segments import ANSWERS
from penstock.monitor.answer_store import AnswerStore
from penstock.registry.location import RegistryLocation
from penstock.registry.records import Author
from penstock.registry.registry import Registry
from penstock.registry.stores.erasures import ErasureStore
from penstock.registry.stores.monitor import MonitorStore


def forget_locally(
    location: RegistryLocation, registry: Registry, model: str | None, key: SubjectKey, by: Author
) -> Document:
    """Erase the rows of a subject of a model (None: of all), and return what was removed. Other gateways follow
    when they run. Features are not known by name here.

    Raises:
        Fault: the database cannot be reached or written.
        OSError: the home cannot be written.
    """
    answers, connections = AnswerStore(location.home / ANSWERS), registry.store.connections
    names = {record.name for record in registry.store.models()}
    home = HomeErasure(location.home, answers.erase, lambda: names, lambda _: {})
    work = ErasureWork(ErasureStore(connections), MonitorStore(connections).gathered, home, answers.name)
    erasure = work.store.ask(model, key, by)
    for item in work.open():
        work.answer(item)
    result = erasure_result(work.store.state(erasure.id))
    work.store.finish(erasure, result, by, is_shared=location.is_shared)
    return {"id": erasure.id, **result}
