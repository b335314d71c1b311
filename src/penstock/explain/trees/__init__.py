"""Sums of trees: read from their attributes, prepared for a background, explained exactly."""
