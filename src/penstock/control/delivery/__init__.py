"""Delivery: routes, rollouts and experiments of this gateway, and the counts behind their evidence."""
