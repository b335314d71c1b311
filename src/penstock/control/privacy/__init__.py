"""Erasure of a subject's rows at every gateway."""
