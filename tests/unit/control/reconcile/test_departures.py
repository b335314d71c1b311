"""Versions that are gone are told of for a while, and no longer."""

from penstock.control.reconcile.departures import Departures


def test_a_version_that_is_gone_is_reported_for_a_while() -> None:
    now = 0.0
    gone = Departures(10.0, lambda: now)
    one, two = ("m", "1"), ("m", "2")
    gone.record([one, two], [one, two])
    now = 9.0
    gone.record([two], [one, two])
    assert gone.reported() == {one, two}
    now = 11.0
    gone.record([two], [two])
    assert gone.reported() == {two}
    now = 100.0
    gone.record([one], [one])
    assert gone.reported() == {one}


def test_what_nobody_saw_leaves_from_the_first_look_on() -> None:
    now = 50.0
    gone = Departures(10.0, lambda: now)
    gone.record([], [("m", "1")])
    assert gone.reported() == {("m", "1")}
    now = 61.0
    gone.record([], [])
    assert gone.reported() == set()


def test_one_whose_time_is_over_does_not_come_back_while_something_is_kept_of_it() -> None:
    times = [0.0]
    gone = Departures(10.0, lambda: times[-1])
    one = ("m", "1")
    gone.record([one], [one])
    for time in (11.0, 12.0, 100.0):
        times.append(time)
        gone.record([], [one])
        assert gone.reported() == set()
    gone.record([one], [one])  # it is served again
    assert gone.reported() == {one}
