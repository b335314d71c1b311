"""Scores a folder of Parquet files with Spark: `spark-submit spark.py MODEL IN OUT "price float"`."""

import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from penstock.scoring import Scorer

scorer = Scorer(sys.argv[1], "champion")  # the registry of PENSTOCK_REGISTRY, on every executor too


def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Return the outputs of a partition."""
    return map(scorer, batches)


rows = SparkSession.builder.getOrCreate().read.parquet(sys.argv[2])
rows.mapInArrow(score, sys.argv[4]).write.parquet(sys.argv[3])
