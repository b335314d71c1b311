"""Reads and checks the body of a feedback request."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.api.rest.request_body import decode_body
from penstock.core.errors import InvalidInput, TooLarge
from penstock.monitor.feedback import Feedback

MOST_FEEDBACK = 10_000
MOST_LABELS = 100_000
"""Maximum of answers in one request, and of labels in all."""

LABEL_CHARACTERS = 1024
"""Maximum characters of a text label."""

ID_CHARACTERS = 512
"""Maximum characters of an id that identify an answer."""


class _Feedback(msgspec.Struct):
    id: str
    label: Any = None
    reward: float | None = None
    timestamp: str | float | None = None


class _FeedbackBody(msgspec.Struct):
    feedback: list[_Feedback]


def read_feedback(body: bytes) -> list[Feedback]:
    """Return the feedback in a request's uncompressed body.

    Raises:
        InvalidInput: it is invalid, or has too many answers.
        TooLarge: it has too many labels.
    """
    feedback = decode_body(body, _FeedbackBody).feedback
    if len(feedback) > MOST_FEEDBACK:
        raise InvalidInput(f"feedback is limited to {MOST_FEEDBACK} answers in one request; send fewer at a time")
    labels = sum([len(item.label) for item in feedback if isinstance(item.label, list)])
    if labels > MOST_LABELS:
        raise TooLarge(f"the feedback has {labels} labels, over the limit of {MOST_LABELS}; send fewer at a time")
    return [_check(item) for item in feedback]


def _check(feedback: _Feedback) -> Feedback:
    labels = feedback.label if isinstance(feedback.label, list) else [feedback.label]
    if any(isinstance(label, (dict, list)) for label in labels):
        raise InvalidInput("a label is a number, a text or a truth value, or a list of them")
    if any(isinstance(label, str) and len(label) > LABEL_CHARACTERS for label in labels):
        raise InvalidInput(f"a label that is a text has at most {LABEL_CHARACTERS} characters")
    if feedback.reward is not None and not 0 <= feedback.reward <= 1:
        raise InvalidInput("a reward is a number from 0 to 1")
    if feedback.label is None and feedback.reward is None:
        raise InvalidInput("feedback needs a 'label' or a 'reward'")
    return Feedback(feedback.id[:ID_CHARACTERS], feedback.label, feedback.reward, _parse_timestamp(feedback.timestamp))


def _parse_timestamp(timestamp: str | float | None) -> float:
    """Return a time in seconds since the epoch, from a number or ISO 8601; 0 for none."""
    if not isinstance(timestamp, str):
        return float(timestamp or 0.0)
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        raise InvalidInput("a timestamp is an ISO 8601 time, or seconds since 1970") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
