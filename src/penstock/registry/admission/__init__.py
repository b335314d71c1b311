"""Admission: examines a content in a sandbox before it may serve."""
