"""Takes the webhooks of an MLflow server: checked by their signature, then the mirror looks again."""

import time
from collections.abc import Mapping
from pathlib import Path

from penstock.control.sources.mlflow import MlflowSync
from penstock.core.errors import NotReady
from penstock.registry.mlflow.webhooks import verify_mlflow


class MlflowWebhook:
    """Wakes the mirror when MLflow calls; the secret is read anew for each call, so that it can be changed."""

    def __init__(self, secret: Path, mirror: MlflowSync) -> None:
        self._secret = secret
        self._mirror = mirror

    def __call__(self, headers: Mapping[str, str], body: bytes) -> None:
        """One call of MLflow's."""
        try:
            secret = self._secret.read_bytes().strip()
        except OSError:
            raise NotReady("the webhook secret cannot be read") from None
        verify_mlflow(headers, body, secret, time.time())
        self._mirror.wake()
