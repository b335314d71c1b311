"""The lines of faults of a policy."""

from penstock.core.policy_faults import PolicyFault, locate_faults

LINES = {"": 1, "monitor": 1, "monitor.sample": 2, "triggers": 4, "triggers[0]": 5, "triggers[0].when": 6}


def test_each_fault_has_the_line_of_its_value_or_of_the_enclosing_section() -> None:
    text = (
        "'monitor.sample' must be a number; 'triggers[0].when.drift' is not a condition; it asks for nothing; it's odd"
    )
    assert locate_faults(text, LINES) == [
        PolicyFault("'monitor.sample' must be a number", "monitor.sample", 2),
        PolicyFault("'triggers[0].when.drift' is not a condition", "triggers[0].when", 6),
        PolicyFault("it asks for nothing"),
        PolicyFault("it's odd"),
    ]
    assert locate_faults("'future' is not a field", LINES) == [PolicyFault("'future' is not a field")]
    assert PolicyFault("m", "a", 3).to_api() == {"line": 3, "path": "a", "message": "m"}


def test_without_lines_the_stated_path_remains() -> None:
    assert locate_faults("'monitor.sample' must be a number", {}) == [
        PolicyFault("'monitor.sample' must be a number", "monitor.sample")
    ]
