"""Rollouts: what is asked for, how one stands, the decision, and the forms it is stored and shown in."""
