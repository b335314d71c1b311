"""The registered models of an MLflow tracking server, and its webhooks."""
