"""Imported last by the process whose forks run the programs of tests: no fork looks for garbage in what they share.

A collection would write to each object, and so make a copy of the memory that all forks have in common.
"""

import gc

gc.collect()
gc.freeze()
