"""Lost workers are counted once each, and outlive the process that counts them."""

import json

from penstock.control.reconcile.losses import Losses

KEY, OTHER = ("m", "1"), ("m", "2")


def test_a_worker_is_counted_once_by_whoever_sees_its_end() -> None:
    losses = Losses()
    losses.note(0, 11, [KEY, OTHER])
    losses.note(1, 12, [KEY])
    losses.note(0, 11, [KEY])
    successor = Losses.of(json.loads(json.dumps(losses.out())))
    successor.note(1, 12, [KEY])
    assert (successor.of_version(KEY), successor.of_version(OTHER)) == (2, 1)
    successor.note(1, 13, [KEY])
    assert successor.of_version(KEY) == 3
    assert Losses.of({}).of_version(KEY) == 0
