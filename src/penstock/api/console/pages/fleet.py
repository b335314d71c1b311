"""The page of the fleet: all gateways of the registry, and the workers, memory and tasks of this one."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.admin.caller_check import visible_models
from penstock.api.admin.visible_fleet import visible_fleet
from penstock.api.console.markup import Child, Markup, badge, element, join, table
from penstock.api.console.services import ConsoleServices, Page
from penstock.core.errors import Fault

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page; without the database it shows this gateway alone."""
    processes = services.control.process_document()
    readiness = services.control.readiness()
    workers = f"Workers: {readiness.workers_ready} of {readiness.workers} ready"
    parts = (
        element("h2", "Gateways"),
        await _gateways(services, request),
        element("h2", workers),
        table("Workers", ("Worker", "Process", "State", "Memory of requests"), map(_worker, processes["workers"])),
        element("h2", "Tasks"),
        table("Tasks", ("Task", "State", "Failures"), map(_task, processes["tasks"])),
    )
    return Page("Fleet", join(*parts))


async def _gateways(services: ConsoleServices, request: Request) -> Markup:
    try:
        fleet = visible_fleet(await services.traffic.fleet.document(), visible_models(request))
    except Fault as fault:
        return element("p", str(fault), class_="note warn")
    rows = [_gateway(gateway) for gateway in fleet["gateways"]]
    leader = element("p", f"The leader is {fleet['leader'] or 'nobody'}.")
    return join(leader, table("Gateways", ("Gateway", "Host", "State", "Release", "Serves"), rows))


def _gateway(gateway: Document) -> tuple[Child, ...]:
    alive = gateway.get("state") == "alive"
    serves = ", ".join(f"{model} ({', '.join(versions)})" for model, versions in gateway["serves"].items())
    state = badge(gateway.get("state", "-"), "good" if alive else "warn")
    return gateway["id"], gateway.get("host", "-"), state, gateway.get("version", "-"), serves


def _worker(worker: Document) -> tuple[Child, ...]:
    state, memory = worker["state"], worker["memory"]
    used = "-" if memory is None else f"{memory['used_bytes']} of {memory['budget_bytes']} bytes"
    kind = "good" if state == "ready" else "warn"
    return str(worker["worker"]), str(worker["pid"] or "-"), badge(state, kind), used


def _task(task: Document) -> tuple[Child, ...]:
    state = join(badge("failing", "bad"), " ", task["problem"]) if task["problem"] else badge("ok", "good")
    return task["name"], state, str(task["failures"])
