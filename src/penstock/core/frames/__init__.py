"""Rows by name: frames of named columns, their text and array forms, and how they become a version's inputs."""
