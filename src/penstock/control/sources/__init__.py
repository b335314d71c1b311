"""Where models come from: watched repositories, the registry, and MLflow."""
