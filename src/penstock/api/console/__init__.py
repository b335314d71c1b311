"""The console on the ops port: HTML pages that read without a script, and the ES modules that keep them live."""
