"""The ops plane over HTTP: health, metrics, administration and the console."""
