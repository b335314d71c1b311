"""Vocabulary and rules without I/O; every other package may import this one."""
