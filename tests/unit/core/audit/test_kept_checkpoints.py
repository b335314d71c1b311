"""Checkpoints from files of notes, from bodies of webhooks, from files of sinks, and from exports."""

import json

import pytest

from penstock.core.audit.kept_checkpoints import read_kept_checkpoints
from penstock.core.audit.notes import Checkpoint
from penstock.core.errors import InvalidInput
from penstock.registry.signing.note_keys import CheckpointKey

NOTES = [CheckpointKey(b"k" * 32).sign(Checkpoint("penstock/x", size, b"r" * 32)).note for size in (3, 5)]
EVENTS = [{"type": "io.penstock.audit.checkpoint.v1", "data": {"size": 3, "note": note}} for note in NOTES]
OTHER = {"type": "io.penstock.drift.detected.v1", "data": {"model": "m"}}

TEXTS = {
    "notes": "".join(f"{note}\n" for note in NOTES),
    "the file of a sink": "".join(json.dumps(event) + "\n" for event in (OTHER, *EVENTS)),
    "with a line that is cut off": f"{json.dumps(EVENTS[0])}\n{json.dumps(OTHER)[:-5]}\n{json.dumps(EVENTS[1])}\n",
    "data alone": "\n".join(json.dumps(event["data"]) for event in EVENTS),
    "an export": "\n".join([json.dumps({"entry": {"seq": 1}}), *(json.dumps({"checkpoint": note}) for note in NOTES)]),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_both_checkpoints_are_found(text: str) -> None:
    assert [signed.note for signed in read_kept_checkpoints(text)] == NOTES


def test_the_body_of_a_webhook_may_have_many_lines() -> None:
    assert [signed.note for signed in read_kept_checkpoints(json.dumps(EVENTS[1], indent=2))] == NOTES[1:]


@pytest.mark.parametrize("text", ["{}", json.dumps(OTHER), '{"data": 3}', '{"data": {"note": 3}}', "{", "3\n{"])
def test_a_text_without_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        read_kept_checkpoints(text)


def test_a_note_that_is_not_a_checkpoint_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not a checkpoint"):
        read_kept_checkpoints(json.dumps({"note": "something else"}))


def test_an_empty_text_has_none() -> None:
    assert read_kept_checkpoints("\n") == []
