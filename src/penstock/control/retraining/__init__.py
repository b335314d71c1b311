"""Requests retraining, sends the requests, and evaluates the candidates by their gates."""
