"""Receives the webhooks of an MLflow server: checks their signature and wakes the synchronisation."""

import time
from collections.abc import Callable, Mapping

from penstock.control.sources.mlflow import MlflowSync
from penstock.core.errors import NotReady
from penstock.core.secrets import Secret, SecretFault
from penstock.registry.mlflow.webhooks import verify_mlflow


class MlflowWebhook:
    """Wakes the synchronisation when MLflow calls; reads the secret at each call, so that it can be changed."""

    def __init__(self, secret: Callable[[], Secret], sync: MlflowSync) -> None:
        self._secret = secret
        self._sync = sync

    def __call__(self, headers: Mapping[str, str], body: bytes) -> None:
        """Handle one call.

        Raises:
            NotReady: the secret cannot be read, or is empty: anybody could sign with that.
            InvalidInput: the signature or the time is wrong.
        """
        try:
            secret = self._secret().reveal()
        except SecretFault as fault:
            raise NotReady("the webhook secret cannot be read", detail=str(fault)) from None
        if not secret:
            raise NotReady("the webhook secret is empty")
        verify_mlflow(headers, body, secret, time.time())
        self._sync.wake()
