"""Servers people would write by hand, to compare with."""
