"""The page of the fleet: all gateways of the registry, and the workers, memory and tasks of this one."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.admin.caller_check import visible_models
from penstock.api.admin.visible_fleet import visible_fleet
from penstock.api.console.markup import Child, Markup, join, render_badge, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.core.errors import Fault

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page; without the database it shows this gateway alone."""
    processes = services.control.process_document()
    readiness = services.control.readiness()
    workers = f"Workers: {readiness.workers_ready} of {readiness.workers} ready"
    parts = (
        render_element("h2", "Gateways"),
        await _render_gateways(services, request),
        render_element("h2", workers),
        render_table(
            "Workers", ("Worker", "Process", "State", "Memory of requests"), map(_worker_cells, processes["workers"])
        ),
        render_element("h2", "Tasks"),
        render_table("Tasks", ("Task", "State", "Failures"), map(_task_cells, processes["tasks"])),
    )
    return Page("Fleet", join(*parts))


async def _render_gateways(services: ConsoleServices, request: Request) -> Markup:
    try:
        fleet = visible_fleet(await services.traffic.fleet.document(), visible_models(request))
    except Fault as fault:
        return render_element("p", str(fault), class_="note warn")
    rows = [_gateway_cells(gateway) for gateway in fleet["gateways"]]
    leader = render_element("p", f"The leader is {fleet['leader'] or 'nobody'}.")
    return join(leader, render_table("Gateways", ("Gateway", "Host", "State", "Release", "Serves"), rows))


def _gateway_cells(gateway: Document) -> tuple[Child, ...]:
    alive = gateway.get("state") == "alive"
    serves = ", ".join(f"{model} ({', '.join(versions)})" for model, versions in gateway["serves"].items())
    state = render_badge(gateway.get("state", "-"), "good" if alive else "warn")
    return gateway["id"], gateway.get("host", "-"), state, gateway.get("version", "-"), serves


def _worker_cells(worker: Document) -> tuple[Child, ...]:
    state, memory = worker["state"], worker["memory"]
    used = "-" if memory is None else f"{memory['used_bytes']} of {memory['budget_bytes']} bytes"
    kind = "good" if state == "ready" else "warn"
    return str(worker["worker"]), str(worker["pid"] or "-"), render_badge(state, kind), used


def _task_cells(task: Document) -> tuple[Child, ...]:
    state = (
        join(render_badge("failing", "bad"), " ", task["problem"]) if task["problem"] else render_badge("ok", "good")
    )
    return task["name"], state, str(task["failures"])
