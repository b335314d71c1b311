"""Receives the webhooks of an MLflow server: checks their signature and wakes the synchronisation."""

import time
from collections.abc import Mapping
from pathlib import Path

from penstock.control.sources.mlflow import MlflowSync
from penstock.core.errors import NotReady
from penstock.registry.mlflow.webhooks import verify_mlflow


class MlflowWebhook:
    """Wakes the synchronisation when MLflow calls; reads the secret at each call, so that it can be changed."""

    def __init__(self, secret: Path, sync: MlflowSync) -> None:
        self._secret = secret
        self._sync = sync

    def __call__(self, headers: Mapping[str, str], body: bytes) -> None:
        """Handle one call.

        Raises:
            NotReady: the secret cannot be read.
            InvalidInput: the signature or the time is wrong.
        """
        try:
            secret = self._secret.read_bytes().strip()
        except OSError:
            raise NotReady("the webhook secret cannot be read") from None
        verify_mlflow(headers, body, secret, time.time())
        self._sync.wake()
