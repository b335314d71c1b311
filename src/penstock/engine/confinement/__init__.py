"""Confinement: a process that runs foreign models gives up every right that it does not need, for good."""
