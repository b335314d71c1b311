"""Imported by the process whose forks run the commands of tests: what a gateway imports at its first label."""

from penstock.monitor.performance import load_river

load_river()
