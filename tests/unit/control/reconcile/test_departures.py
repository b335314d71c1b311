"""Versions that are gone are told of for a while, and no longer."""

from penstock.control.reconcile.departures import Departures


def test_a_version_that_is_gone_is_told_of_for_a_while() -> None:
    now = 0.0
    gone = Departures(10.0, lambda: now)
    one, two = ("m", "1"), ("m", "2")
    gone.look([one, two], [one, two])
    now = 9.0
    gone.look([two], [one, two])
    assert gone.told() == {one, two}
    now = 11.0
    gone.look([two], [two])
    assert gone.told() == {two}
    now = 100.0
    gone.look([one], [one])
    assert gone.told() == {one}


def test_what_nobody_saw_leaves_from_the_first_look_on() -> None:
    now = 50.0
    gone = Departures(10.0, lambda: now)
    gone.look([], [("m", "1")])
    assert gone.told() == {("m", "1")}
    now = 61.0
    gone.look([], [])
    assert gone.told() == set()


def test_one_whose_time_is_over_does_not_come_back_while_something_is_kept_of_it() -> None:
    times = [0.0]
    gone = Departures(10.0, lambda: times[-1])
    one = ("m", "1")
    gone.look([one], [one])
    for time in (11.0, 12.0, 100.0):
        times.append(time)
        gone.look([], [one])
        assert gone.told() == set()
    gone.look([one], [one])  # it is served again
    assert gone.told() == {one}
