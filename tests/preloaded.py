"""Imported by the process whose forks run the commands of tests: what a gateway imports at its first label, and
the parser at the first word of a command."""

from contextlib import redirect_stdout
from io import StringIO

from penstock import cli
from penstock.monitor.performance import load_river

load_river()
with redirect_stdout(StringIO()):
    cli.run(["version"])
