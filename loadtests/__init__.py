"""Load tests: how fast the gateway is beside the ceiling of the same machine, and what happens when workers die."""
