"""Signatures of webhooks, by the examples of the specification and by a verifier written apart."""

import base64
import hashlib
import hmac

from penstock.core.secrets import Secret, signing_key
from penstock.core.webhook_signatures import bind_headers, sign_webhook


def test_the_example_of_the_specification() -> None:
    """Of https://github.com/standard-webhooks/standard-webhooks, "Verifying webhooks manually" in its documents."""
    key = signing_key(Secret("example", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    body = b'{"test": 2432232314}'
    found = sign_webhook("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, [key])
    assert found["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert found["webhook-timestamp"] == "1614265330"
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_keys_sign_apart_and_the_first_signs_the_body() -> None:
    new, old = b"n" * 24, b"o" * 24
    found = sign_webhook("id", 7, b"body", [new, old])
    signatures = [item.removeprefix("v1,") for item in found["webhook-signature"].split(" ")]
    assert [base64.b64decode(item) for item in signatures] == [
        hmac.new(key, b"id.7.body", hashlib.sha256).digest() for key in (new, old)
    ]
    assert found["penstock-signature"] == "sha256=" + hmac.new(new, b"body", hashlib.sha256).hexdigest()


def test_the_id_of_headers_covers_names_and_values() -> None:
    headers = {"ce-type": "a", "ce-id": "b"}
    found = bind_headers("b", headers)
    assert found == bind_headers("b", dict(reversed(headers.items())))
    others = [{**headers, "ce-type": "x"}, {**headers, "ce-more": ""}, {"ce-type": "a"}, {"ce-id": "a", "ce-type": "b"}]
    assert len({found, *(bind_headers("b", other) for other in others)}) == 5
    assert found.startswith("b_")
