"""Delivery: routes, rollouts and experiments of this gateway, and what their evidence rests on."""
