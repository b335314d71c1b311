"""Asks for retraining, sends the requests, and takes the candidates through their gates."""
