"""Scores a folder of Parquet files with Ray Data: `python ray_data.py MODEL IN OUT`."""

import sys

import pyarrow as pa
import ray

from penstock.scoring import Scorer

scorer = Scorer(sys.argv[1], "champion")  # the registry of PENSTOCK_REGISTRY, on every node too


def score(table: pa.Table) -> pa.Table:
    """Return the outputs of a table."""
    return pa.Table.from_batches([scorer(batch) for batch in table.to_batches()])


rows = ray.data.read_parquet(sys.argv[2])
rows.map_batches(score, batch_format="pyarrow", batch_size=8192).write_parquet(sys.argv[3])
