"""Vocabulary and rules without I/O; every other room may import this one."""
