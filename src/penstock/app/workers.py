"""The program of the workers, their options, how many of them a gateway has, and the memory for their models."""

from pathlib import Path
from typing import Any

from penstock.app.confinement import is_required, worker_paths
from penstock.app.exposure import repository_control_of, trusted_hosts_of
from penstock.app.signatures import read_signature_policy
from penstock.config.observability import TracingSettings
from penstock.config.settings import Settings
from penstock.control.instance.options import WorkerOptions
from penstock.core.access.exposure import Exposure
from penstock.engine.memory import read_memory
from penstock.engine.threads import read_cores
from penstock.registry.location import RegistryLocation

WORKER_MODULE = "penstock.app.worker"
"""Its ``main`` takes the arguments of a worker, and returns the exit code; it may be run as a program too."""


MODELS_SHARE = 0.8
"""By default, the models of all workers together may take this share of the memory."""


def worker_count(settings: Settings) -> int:
    """Return the number of workers: as the settings say, or one for each core."""
    return read_cores() if settings.workers == "auto" else settings.workers


def models_memory(settings: Settings) -> int:
    """Return the memory for the models of each worker, in bytes."""
    stated = settings.limits.models_memory_bytes
    return int(read_memory() * MODELS_SHARE) // worker_count(settings) if stated == "auto" else stated


def _tracing_options(tracing: TracingSettings, workers: int) -> dict[str, float]:
    """Return the options of each worker about traces: its part of what may be forced; none without a receiver."""
    if tracing.otlp_endpoint is None:
        return {}
    forced = tracing.max_forced_per_second / workers
    return {"trace_ratio": tracing.ratio, "traces_forced_per_second": forced}


def _dialect_options(settings: Settings, cores: int) -> dict[str, dict[str, Any]]:
    """Return the options of dialects that have some: the folder of models that are loaded by request, and routes."""
    sagemaker = settings.sagemaker
    root = settings.models[0] if sagemaker.multi_model and settings.models else ""
    return {
        "sagemaker": {
            "root": str(Path(root).expanduser().absolute()) if root else "",
            "multi_model": sagemaker.multi_model,
            "max_concurrent_transforms": sagemaker.max_concurrent_transforms or cores,
            "batch_strategy": sagemaker.batch_strategy,
        },
        "vertex": {"health_route": settings.vertex.health_route, "predict_route": settings.vertex.predict_route},
    }


def options_of(settings: Settings, exposure: Exposure, location: RegistryLocation, host: str) -> WorkerOptions:
    """Return the options of the workers that serve this registry on a host."""
    cores, number, paths = read_cores(), worker_count(settings), worker_paths(settings, location)
    return WorkerOptions(
        host=host,
        http_port=settings.http_port,
        grpc_port=settings.grpc_port,
        workers=number,
        grpc_outputs=settings.grpc_outputs,
        threads=max(1, cores // number),
        max_body_bytes=settings.limits.max_body_bytes,
        max_json_bytes=settings.limits.max_json_bytes,
        freeze_s=settings.limits.freeze_seconds,
        max_output_bytes=settings.limits.max_output_bytes,
        max_elements=settings.limits.max_elements,
        max_text_elements=settings.limits.max_text_elements,
        max_text_bytes=settings.limits.max_text_bytes,
        memory_bytes=None if settings.limits.memory_bytes == "auto" else settings.limits.memory_bytes,
        models_memory_bytes=models_memory(settings),
        max_connections=settings.limits.max_connections,
        deadline_s=settings.limits.deadline_seconds,
        drain_delay_s=settings.stop.drain_delay_seconds,
        drain_timeout_s=settings.stop.drain_timeout_seconds,
        orphan_grace_s=settings.stop.orphan_grace_seconds,
        load_s=settings.limits.load_seconds,
        log_level=settings.log_level,
        log_format=settings.log_format,
        access_log_ratio=settings.access_log_ratio,
        **_tracing_options(settings.tracing, number),
        shared_memory=settings.shared_memory,
        dialects=settings.dialects,
        default_model=settings.default_model,
        dialect_options=_dialect_options(settings, cores),
        cors_origins=settings.cors.origins,
        trusted_hosts=trusted_hosts_of(settings, exposure),
        repository_control=repository_control_of(settings, exposure),
        tls=settings.tls is not None,
        signatures=read_signature_policy(settings.admission.signatures),
        readable=tuple(map(str, paths.readable)),
        writable=tuple(map(str, paths.writable)),
        is_confinement_required=is_required(settings),
    )
