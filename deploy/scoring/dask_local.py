"""Scores a folder of Parquet files with Dask: `python dask_local.py MODEL IN OUT`."""

import sys
from pathlib import Path

from dask.distributed import Client, LocalCluster
from pyarrow import Table, parquet

from penstock.scoring import Scorer


def score(scorer: Scorer, source: Path, target: Path) -> int:
    """Score one file, and return its rows."""
    batches = parquet.ParquetFile(source).iter_batches(batch_size=8192)
    result = Table.from_batches([scorer(batch) for batch in batches])
    parquet.write_table(result, target / source.name)
    return len(result)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[2:])
    target.mkdir(exist_ok=True)
    scorer = Scorer(sys.argv[1], "champion")  # the registry of PENSTOCK_REGISTRY, on every worker too
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        files = sorted(source.glob("*.parquet"))
        rows = client.gather(client.map(score, [scorer] * len(files), files, [target] * len(files)))
    sys.stdout.write(f"{sum(rows)} rows\n")
