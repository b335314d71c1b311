"""The ops plane: health, metrics and administration, in words of HTTP."""
