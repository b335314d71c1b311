"""Explains predictions of loaded versions: how much each feature of a row moved the answer."""
