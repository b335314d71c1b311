"""The sections of the settings about the clouds whose containers serve models: SageMaker and Vertex AI."""

from typing import Annotated, Literal

from penstock.config.fields import Field, Section

Route = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/:@-]*$", max_length=256)]


class SagemakerSettings(Section):
    """The dialect of SageMaker."""

    multi_model: bool = False
    """Serve the models of a multi-model endpoint: the folder in models has NAME/model, and POST /models loads one."""

    max_concurrent_transforms: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Requests at a time that a batch transform should send, for GET /execution-parameters; one for each core."""

    batch_strategy: Literal["MULTI_RECORD", "SINGLE_RECORD"] = "MULTI_RECORD"
    """Records in a request of a batch transform: as many as fit, or one."""


class VertexSettings(Section):
    """The dialect of Vertex AI."""

    health_route: Route = "/health"
    """Path of health checks."""

    predict_route: Route = "/predict"
    """Path of predictions."""
