"""The table of `penstock fleet`."""

from penstock.cli.fleet import HEADINGS, make_cells


def test_a_gateway_is_a_line_with_its_lag() -> None:
    fleet = {"term": 3, "revision": 9}
    one = {"id": "a", "host": "h", "version": "1.0", "started": 0.0, "silent_seconds": 2.4, "state": "alive"}
    line = make_cells({**one, "leads": True, "revision": 7, "serves": {"m": ["1", "2"]}}, fleet)
    assert len(line) == len(HEADINGS)
    assert line[4:] == ("2 s ago", "alive", "term 3", "2", "m:1,2")
