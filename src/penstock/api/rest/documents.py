"""Metadata, statistics and the index of models as JSON documents."""

from typing import Any

from penstock.core.signature import TensorSpec
from penstock.monitor.counters.totals import Totals
from penstock.serving.server_queries import IndexEntry, ModelMetadata, VersionStatistics
from penstock.serving.shared_memory import SharedRegion


def metadata_document(metadata: ModelMetadata) -> dict[str, Any]:
    """Return the metadata of a model, or of one version."""
    return {
        "name": metadata.name,
        "versions": metadata.versions,
        "platform": metadata.platform,
        "inputs": [_tensor_document(spec) for spec in metadata.inputs],
        "outputs": [_tensor_document(spec) for spec in metadata.outputs],
        **({"properties": metadata.properties} if metadata.properties else {}),
    }


def _tensor_document(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def index_line(line: IndexEntry) -> dict[str, str]:
    """Return a line of the repository index; empty values are omitted."""
    facts = {"name": line.name, "version": line.version, "state": line.state, "reason": line.reason}
    return {key: value for key, value in facts.items() if value}


def region_document(region: SharedRegion) -> dict[str, Any]:
    """Return the status of a registered shared memory region."""
    return {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.byte_size}


def _describe_duration(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}


def statistics_document(version_statistics: VersionStatistics) -> dict[str, Any]:
    """Return the statistics of a version; durations are in nanoseconds."""
    totals = version_statistics.totals
    return {
        "name": version_statistics.model,
        "version": version_statistics.version,
        "last_inference": totals.last_inference_ms,
        "inference_count": totals.inferences,
        "execution_count": totals.executions,
        "inference_stats": _inference_stats(totals),
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _describe_duration(count, decode),
                "compute_infer": _describe_duration(count, run),
                "compute_output": _describe_duration(count, encode),
            }
            for size, count, decode, run, encode in totals.batches()
        ],
        "memory_usage": [],
        "response_stats": {},
    }


def _inference_stats(totals: Totals) -> dict[str, dict[str, int]]:
    stages = {stage: totals.stage(stage) for stage in ("queue", "decode", "run", "encode")}
    succeeded = totals.outcome_count(succeeded=True)
    return {
        "success": _describe_duration(succeeded, totals.success_ns),
        "fail": _describe_duration(totals.outcome_count(succeeded=False), totals.fail_ns),
        "queue": _describe_duration(stages["queue"].count, stages["queue"].total),
        "compute_input": _describe_duration(stages["decode"].count, stages["decode"].total),
        "compute_infer": _describe_duration(stages["run"].count, stages["run"].total),
        "compute_output": _describe_duration(stages["encode"].count, stages["encode"].total),
        "cache_hit": _describe_duration(0, 0),
        "cache_miss": _describe_duration(0, 0),
    }
