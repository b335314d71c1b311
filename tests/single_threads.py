"""Imported before numpy by the process whose forks run the programs of tests: a fork has only one of its threads."""

import os

from penstock.control.workers.environment import LIBRARY_THREADS

os.environ.update(dict.fromkeys(LIBRARY_THREADS, "1"))
