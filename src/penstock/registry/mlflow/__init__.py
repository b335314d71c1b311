"""What an MLflow tracking server has registered, and its webhooks."""
