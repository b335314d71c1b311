"""A worker with quick periodic tasks that fail as those of ``failing_tasks`` do."""

import sys

from penstock.app import worker
from tests.faults import failing_tasks

main = worker.main
"""What a fork of the gateway runs, in which the tasks fail already."""

if __name__ == "__main__":
    failing_tasks.install()
    sys.exit(main(sys.argv[1:]))
