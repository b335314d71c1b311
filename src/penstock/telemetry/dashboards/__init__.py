"""Grafana dashboards: fleet, model, rollouts and shadows, drift and quality."""
