"""The admin API shows the fleet."""

from tests.unit.api.admin.conftest import Client


def test_the_fleet_is_shown(client: Client) -> None:
    reply = client.get("/admin/v1/fleet")
    assert reply.status_code == 200
    assert reply.json()["leader"] == "a"
