"""A worker with quick periodic tasks that fail as those of ``failing_tasks`` do."""

import sys

from penstock.app import worker
from tests.faults import failing_tasks

if __name__ == "__main__":
    failing_tasks.install()
    sys.exit(worker.main(sys.argv[1:]))
