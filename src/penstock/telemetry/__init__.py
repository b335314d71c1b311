"""The metric table and its exposition."""
