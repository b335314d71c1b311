"""The models at a glance and the processes of a gateway, as the admin API shows them."""

from pathlib import Path

from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.test_permissions import Guarded, bearer


def test_the_overview_has_a_row_for_each_model(client: Client) -> None:
    models = client.admin("GET", "/overview").json()["models"]
    assert [model["name"] for model in models] == ["<bad>", "digits", "good"]
    assert models[1]["split"] == {"1": 9550, "2": 450}


def test_the_overview_leaves_out_what_the_caller_may_not_read(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    key = bearer("viewer", "fraud-*")
    assert guarded.request("GET", "/admin/v1/overview", key).json() == {"models": []}
    assert len(guarded.request("GET", "/admin/v1/overview", bearer("viewer")).json()["models"]) == 3


def test_workers_and_tasks(client: Client) -> None:
    document = client.admin("GET", "/workers").json()
    assert [worker["state"] for worker in document["workers"]] == ["ready", "absent"]
    assert document["tasks"][1] == {"name": "rules", "last_success": 5.0, "failures": 2, "problem": "it is <overdue>"}
