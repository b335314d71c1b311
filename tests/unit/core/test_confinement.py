"""Which layers of confinement hold: a table of what the kernel offers."""

import pytest

from penstock.core.confinement import (
    ConfinementReport,
    Layer,
    Mechanisms,
    Program,
    decode_report,
    encode_report,
    report_layers,
)

WHOLE = Mechanisms(landlock=7, seccomp=True)


@pytest.mark.parametrize("program", Program)
def test_with_landlock_and_seccomp_nothing_is_missing(program: Program) -> None:
    report = report_layers(WHOLE, program)
    assert report.is_complete
    assert set(report.in_force) == set(Layer)
    assert report.problem == ""
    assert report.in_force[Layer.MEMORY] == "rlimit"


@pytest.mark.parametrize(
    ("mechanisms", "program", "missing"),
    [
        (Mechanisms(0, seccomp=True), Program.SANDBOX, {"files"}),
        (Mechanisms(0, seccomp=True), Program.WORKER, {"files", "network"}),
        (Mechanisms(2, seccomp=True), Program.SANDBOX, set()),  # the filter refuses every socket
        (Mechanisms(2, seccomp=True), Program.WORKER, {"network"}),
        (Mechanisms(4, seccomp=True), Program.WORKER, set()),
        (Mechanisms(7), Program.WORKER, {"network", "system_calls"}),
        (Mechanisms(5), Program.WORKER, {"network", "signals", "system_calls"}),
        (Mechanisms(7), Program.SANDBOX, {"network", "system_calls"}),
        (Mechanisms(7, namespace=True), Program.SANDBOX, {"system_calls"}),
        (Mechanisms(7, namespace=True), Program.WORKER, {"network", "system_calls"}),
        (Mechanisms(7, seccomp=True, all_threads=False), Program.SANDBOX, {"files"}),
        (Mechanisms(7, seccomp=True, memory=False), Program.SANDBOX, {"memory"}),
        (Mechanisms(0, seccomp=False, no_new_privs=False), Program.SANDBOX, {*Layer} - {"memory"}),
    ],
)
def test_a_missing_layer_is_named_with_its_reason(mechanisms: Mechanisms, program: Program, missing: set[str]) -> None:
    report = report_layers(mechanisms, program)
    assert set(report.missing) == missing
    assert set(report.in_force) == {*Layer} - missing
    assert all(f"{name} ({why})" in report.problem for name, why in report.missing.items())
    assert report.is_complete == (not missing)


def test_a_report_survives_json() -> None:
    report = report_layers(Mechanisms(2, seccomp=True), Program.WORKER)
    assert decode_report(encode_report(report)) == report
    assert decode_report(encode_report(ConfinementReport())) == ConfinementReport()
