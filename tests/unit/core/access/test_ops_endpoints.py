"""The table of the ops port: how a request finds what it requires, and which calls are open to everybody."""

import pytest

from penstock.core.access.endpoints import PUBLIC, READ, Requirement
from penstock.core.access.ops_endpoints import ADMINISTER_ALL, ADMINISTER_SOME, METRICS_ALL, OPS, requirement_of
from penstock.core.access.permissions import Permission


def test_calls_of_the_admin_api_are_below_its_prefix_and_others_are_not() -> None:
    assert OPS["POST /admin/v1/erasures"] == ADMINISTER_ALL
    assert OPS["GET /metrics"] == METRICS_ALL
    assert {"GET /livez", "GET /readyz", "GET /", "GET /console/models"} <= OPS.keys()
    assert not [endpoint for endpoint in OPS if endpoint.count("/admin/v1") > 1 or "//" in endpoint]


@pytest.mark.parametrize(
    ("method", "template", "parameters", "requirement"),
    [
        ("GET", "/admin/v1/keys", {}, ADMINISTER_SOME),
        ("HEAD", "/admin/v1/keys", {}, ADMINISTER_SOME),
        ("PUT", "/admin/v1/keys", {}, None),
        ("GET", "/livez", {}, PUBLIC),
        ("GET", "/console/models/{model}", {"model": "m"}, READ),
        ("GET", "/nowhere", {}, None),
        ("GET", "/nowhere/{verb}", {"verb": "keys"}, None),
    ],
)
def test_a_request_requires_what_its_method_and_template_state(
    method: str, template: str, parameters: dict[str, str], requirement: Requirement | None
) -> None:
    assert requirement_of(method, template, parameters) == requirement


def test_a_verb_with_an_entry_of_its_own_comes_before_the_others() -> None:
    with_verb = [endpoint for endpoint in OPS if endpoint.endswith("{verb}")]
    assert with_verb
    for endpoint in with_verb:
        method, _, template = endpoint.partition(" ")
        assert requirement_of(method, template, {"verb": "no-such-verb"}) == OPS[endpoint]
        assert requirement_of(method, template, {}) == OPS[endpoint]
        stem = endpoint.removesuffix("{verb}")
        for other in [key for key in OPS if key.startswith(stem) and "{" not in key[len(stem) :]]:
            assert requirement_of(method, template, {"verb": other[len(stem) :]}) == OPS[other]


def test_the_metrics_need_their_permission_on_all_models() -> None:
    assert METRICS_ALL.permissions == {Permission.METRICS}
    assert requirement_of("GET", "/metrics", {}) == METRICS_ALL
