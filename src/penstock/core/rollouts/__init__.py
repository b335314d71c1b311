"""Rollouts: the specification, the state, the decision, and the stored and public forms."""
