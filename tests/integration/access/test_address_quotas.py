"""Quotas of client addresses where no credential is needed, and of callers by token, from the configuration."""

import json
from pathlib import Path

import grpc
import pytest

from penstock.app.access import open_access
from penstock.config.settings import load_settings
from penstock.core.access.table import AccessTable, Quota
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from penstock.registry.db.database import open_database
from penstock.registry.location import location_of
from tests import harness, zoo
from tests.harness import PATIENCE_S, wait_until
from tests.integration.access.ports import INFER
from tests.integration.access.test_credentials import PATH, message


def test_an_address_is_refused_beyond_its_quota_and_counted(tmp_path: Path) -> None:
    zoo.place(tmp_path / "models", "digits", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    env = {"PENSTOCK_LIMITS__ADDRESS_QUOTA": json.dumps({"requests": 0.01})}
    with harness.running(tmp_path / "models", tmp_path, "--workers", "2", env=env) as server:
        replies = [server.rest("POST", PATH, INFER) for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 429, 429, 429]
        assert int(replies[-1].headers["retry-after"]) > 1
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
            GRPCInferenceServiceStub(channel).ModelInfer(message())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.is_ready()

        def counted() -> bool:
            series = 'penstock_quota_refused_total{caller="anonymous"} 4'
            return series in server.admin("GET", "/metrics").body.decode()

        wait_until(counted, PATIENCE_S, "the count of refused requests")


def test_the_configuration_states_quotas_of_bindings(tmp_path: Path) -> None:
    file, home = tmp_path / "penstock.yaml", tmp_path / "home"
    bindings = [{"group": "team", "role": "caller", "quota": {"requests": 5, "concurrent": 2}}]
    file.write_text(json.dumps({"auth": {"keys": True, "bindings": bindings}}))
    tables: list[AccessTable] = []
    place = location_of(str(home), home, "")
    database = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    services = open_access(load_settings(file).auth, place, database, tables.append)
    services.tables._use(services.tables._sources.settings)
    assert tables[-1].bindings[0].quota == Quota(requests=5.0, concurrent=2)
    services.close()
    database.close()
