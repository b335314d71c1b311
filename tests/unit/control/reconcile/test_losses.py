"""Lost workers are counted once each, and outlive the process that counts them."""

import json

from penstock.control.reconcile.losses import WorkerLosses

KEY, OTHER = ("m", "1"), ("m", "2")


def test_a_worker_is_counted_once_by_whoever_sees_its_end() -> None:
    losses = WorkerLosses()
    losses.note(0, 11, [KEY, OTHER])
    losses.note(1, 12, [KEY])
    losses.note(0, 11, [KEY])
    successor = WorkerLosses.of(json.loads(json.dumps(losses.out())))
    successor.note(1, 12, [KEY])
    assert (successor.of_version(KEY), successor.of_version(OTHER)) == (2, 1)
    successor.note(1, 13, [KEY])
    assert successor.of_version(KEY) == 3
    assert WorkerLosses.of({}).of_version(KEY) == 0


def test_losses_of_versions_that_are_gone_are_forgotten() -> None:
    losses = WorkerLosses()
    losses.note(0, 10, [("m", "1"), ("m", "2")])
    losses.forget([("m", "2")])
    assert (losses.of_version(("m", "1")), losses.of_version(("m", "2"))) == (0, 1)
    losses.note(0, 10, [("m", "2")])  # the same worker is still counted once
    assert losses.of_version(("m", "2")) == 1
