"""Reads file, environment and flags into one frozen tree of options."""
