"""Model configurations (``config.pbtxt``): parses them, reads them as options, and describes them in full for callers.

The canonical form that is stored and passed on is protobuf JSON with the original field names.
"""

import re
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.message import Message

from penstock.core.batching import BATCHING, BatchSharing
from penstock.core.errors import InvalidInput
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature, TensorSpec
from penstock.core.versions import VersionPolicy
from penstock.proto import model_config_pb2 as pb
from penstock.registry.config.supported_config import BACKEND, DATATYPES, PLATFORM, options_of
from penstock.registry.files import FilesBeneath, ModelFiles, NamesOnly

MAX_CONFIG_CHARACTERS = 1 << 20
LONGEST_LINE = 300
"""Longest message of a refusal, which may repeat parts of the configuration."""

DERIVED_MAX_BATCH_SIZE = 1024
"""The described value if the graph batches and the configuration states no bound: measuring tools need one above 0."""

_TYPES = {name: pb.DataType.Name(number) for number, name in DATATYPES.items()}
_PLACE = re.compile(r"(\d+):(\d+) : (?:'.*': )?")


def parse_text(text: str, model: str = "") -> str:
    """Return the canonical form of a configuration in protobuf text format; ``model`` is the name it must have.

    Raises:
        InvalidInput: it does not parse (the message has the field or the line), or is for another model.
    """
    config = pb.ModelConfig()
    _check_length(text)
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise _parse_fault(error) from None
    return _write_canonical(config, model)


def parse_json(text: str, model: str = "") -> str:
    """Return the canonical form of a configuration in JSON; ``model`` is the name it must have.

    Raises:
        InvalidInput: as ``parse_text``.
    """
    _check_length(text)
    if not text.lstrip().startswith("{"):
        raise InvalidInput("the model configuration must be a JSON object")
    return _write_canonical(_from_json(text), model)


def read(config_json: str, folder: Path) -> ModelOptions:
    """Return the options of a configuration; label and warm-up files are read inside ``folder`` only.

    Raises:
        InvalidInput: it has an option that is not supported for ONNX models on a CPU.
    """
    return _read(config_json, FilesBeneath(folder))


def referenced_files(config_json: str) -> tuple[ModelOptions, tuple[str, ...]]:
    """Return the options without the content of files, and the files that the configuration references below the
    model's folder.

    Raises:
        InvalidInput: as ``read``, except for the content of files.
    """
    names = NamesOnly()
    return _read(config_json, names), tuple(sorted(set(names.names)))


def _read(config_json: str, files: ModelFiles) -> ModelOptions:
    if not config_json:
        return ModelOptions()
    try:
        return options_of(_from_json(config_json), files)
    except InvalidInput as fault:  # the message may repeat a part of the configuration of any length
        raise InvalidInput(" ".join(str(fault).split())[:LONGEST_LINE]) from None


def describe(
    name: str, options: ModelOptions, signature: Signature, sharing: BatchSharing, config_json: str
) -> dict[str, Any]:
    """Return the complete configuration as JSON values: the stated fields, and those derived from the graph.

    The described parameter ``batching`` says whether calls share runs, and why.
    """
    config = _from_json(config_json) if config_json else pb.ModelConfig()
    config.name, config.platform, config.backend = name, PLATFORM, BACKEND
    config.max_batch_size = signature.max_batch_size or (DERIVED_MAX_BATCH_SIZE if signature.batching else 0)
    _describe_policy(config, options.version_policy)
    _describe_inputs(config, signature)
    _describe_outputs(config, signature)
    config.default_model_filename = options.filename
    if not config.instance_group:
        config.instance_group.add(name=name, count=options.instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    if sharing.shared:
        config.dynamic_batching.SetInParent()
    config.parameters[BATCHING].string_value = sharing.text
    return _to_json(config)


def _check_length(text: str) -> None:
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise InvalidInput(f"the model configuration is longer than {MAX_CONFIG_CHARACTERS} characters")


def _from_json(text: str) -> pb.ModelConfig:
    config = pb.ModelConfig()
    try:
        json_format.Parse(text, config)
    except (json_format.ParseError, RecursionError) as error:
        raise _parse_fault(error) from None
    return config


def _parse_fault(error: Exception) -> InvalidInput:
    line = str(error).splitlines()[0][:LONGEST_LINE] if str(error) else "nested too deeply"
    match = _PLACE.match(line)
    if match is not None:  # the parser quotes the whole line, which may contain paths
        line = f"line {match[1]}, column {match[2]}: {line[match.end() :]}"
    readable = line.replace("inference.", "").encode("ascii", "replace").decode()
    return InvalidInput(f"the model configuration does not parse: {readable}")


def _write_canonical(config: pb.ModelConfig, model: str) -> str:
    if model and config.name not in ("", model):
        raise InvalidInput(f"the model configuration is for the model '{config.name}'; expected '{model}'")
    return json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)


def _describe_policy(config: pb.ModelConfig, policy: VersionPolicy) -> None:
    if config.version_policy.WhichOneof("policy_choice") is None:
        config.version_policy.all.SetInParent()
    elif policy.kind == "latest":
        config.version_policy.latest.num_versions = policy.latest


def _describe_inputs(config: pb.ModelConfig, signature: Signature) -> None:
    formats = {entry.name: entry.format for entry in config.input}
    inputs = [
        pb.ModelInput(
            **_tensor_fields(spec, signature.batching),
            optional=spec.optional,
            format=formats.get(spec.name, pb.ModelInput.FORMAT_NONE),
        )
        for spec in signature.inputs
    ]
    del config.input[:]
    config.input.extend(inputs)


def _describe_outputs(config: pb.ModelConfig, signature: Signature) -> None:
    labels = {entry.name: entry.label_filename for entry in config.output}
    outputs = [
        pb.ModelOutput(**_tensor_fields(spec, signature.batching), label_filename=labels.get(spec.name, ""))
        for spec in signature.outputs
    ]
    del config.output[:]
    config.output.extend(outputs)


def _tensor_fields(spec: TensorSpec, batching: bool) -> dict[str, Any]:
    """Return the fields of a tensor. Dims exclude the batch dimension and are never empty: a single number in a row is
    ``[1]``, reshaped."""
    lead = 1 if batching else 0
    dims = spec.shape[lead:]
    reshape = None
    if spec.graph_shape is not None or not dims:
        reshape = pb.ModelTensorReshape(shape=(spec.graph_shape or ())[lead:])
    return {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": dims or (1,), "reshape": reshape}


def _to_json(message: Message) -> dict[str, Any]:
    """Return a message as JSON values: with default values, original field names, names of enums, and whole numbers."""
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            item = field.message_type.fields_by_name["value"]
            values[field.name] = {str(key): _plain_value(item, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            values[field.name] = [_plain_value(field, item) for item in value]
        else:
            values[field.name] = _plain_value(field, value)
    return values


def _plain_value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _to_json(value)
    if field.enum_type is not None:
        entry = field.enum_type.values_by_number.get(value)
        return value if entry is None else entry.name
    return value
