"""What may be asked of a model may be asked of its versions, with the same permission."""

from penstock.core.access.endpoints import REST


def test_each_endpoint_of_a_version_needs_what_that_of_the_model_needs() -> None:
    of_versions = {path: need for path, need in REST.items() if "{model}/versions/{version}" in path}
    assert {path.rpartition("/")[2] for path in of_versions} >= {"ready", "config", "stats", "infer", "explain"}
    for path, need in of_versions.items():
        assert REST.get(path.replace("/versions/{version}", ""), need) == need, path
