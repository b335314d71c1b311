"""Checks manifests as an API server and a careful reader do: strict schemas, and references that lead somewhere."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests.integration.kubernetes.crds import custom_schemas
from tests.integration.kubernetes.tools import definitions

Manifest = Mapping[str, Any]

_BESIDE_CRDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("custom_resources.yaml").read_text())
"""What an operator demands of a resource that its definition leaves open."""

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LONGEST_NAME = 63


class _UniqueKeys(yaml.CSafeLoader):
    """Refuses a key that is there twice, of which one value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.YAMLError(f"a key is there twice: {keys}, {node.start_mark}")
        return super().construct_mapping(node, deep)


def read_manifests(text: str) -> list[dict[str, Any]]:
    """The objects of a text with documents of YAML.

    Raises:
        yaml.YAMLError: the text is none, or a key is there twice.
    """
    return [document for document in yaml.load_all(text, _UniqueKeys) if document]


def faults_of(manifest: Manifest) -> list[str]:
    """What an API server would refuse in an object, each with its place."""
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    errors = _validator(manifest["apiVersion"], manifest["kind"]).iter_errors(manifest)
    found = [f"{name}: {'.'.join(map(str, error.instance_path))}: {error.message}" for error in errors]
    if not _NAME.fullmatch(manifest["metadata"]["name"]) or len(manifest["metadata"]["name"]) > _LONGEST_NAME:
        found.append(f"{name}: not a name")
    return found


@cache
def _validator(api_version: str, kind: str) -> Any:
    core = definitions()
    name = f"{api_version}/{kind}"
    custom = custom_schemas().get(name)
    root = _custom_root(name, custom) if custom else {"$ref": f"#/$defs/{_core_name(api_version, kind)}"}
    return jsonschema_rs.validator_for({**root, "$defs": core})


def _custom_root(name: str, schema: Manifest) -> dict[str, Any]:
    """The schema of a definition, with the metadata that API servers add to it."""
    properties = {**schema["properties"], "metadata": {"$ref": f"#/$defs/{_META}"}}
    required = sorted({"apiVersion", "kind", "metadata", *schema.get("required", ())})
    return {**schema, "properties": properties, "required": required, "allOf": [_BESIDE_CRDS.get(name, True)]}


def _core_name(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    short = (group or "core").removesuffix(".k8s.io").removesuffix(".authorization")
    return f"io.k8s.api.{short}.{version}.{kind}"


def loose_ends(manifests: Sequence[Manifest], given: Iterable[str] = ()) -> list[str]:
    """References that lead nowhere; ``given`` are the secrets and claims that the users of the manifests make.

    Names of ports, volumes, config maps, secrets, claims, accounts, and selectors of pods.
    """
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    names |= {(kind, name) for kind in ("Secret", "PersistentVolumeClaim", "ConfigMap") for name in given}
    names |= {("Secret", one["spec"]["secretName"]) for one in manifests if one["kind"] == "Certificate"}
    found: list[str] = []
    for owner, pod in pods_of(manifests):
        is_hook = "helm.sh/hook" in owner["metadata"].get("annotations", {})
        found += _loose_in_pod(owner, pod, set() if is_hook else names, set(given))
    return [*found, *_loose_selectors(manifests)]


def pods_of(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each object that makes pods, with the template of its pods."""
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield manifest, manifest["spec"]["template"]


def _loose_in_pod(owner: Manifest, template: Manifest, names: set[tuple[str, str]], given: set[str]) -> Iterator[str]:
    spec, where = template["spec"], f"{owner['kind']} {owner['metadata']['name']}"
    claims = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    if len(volumes) != len(set(volumes)):
        yield f"{where}: two volumes with one name"
    mounted: set[str] = set()
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in ports:
                yield f"{where}: {probe} asks port {port}"
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(paths) != len(set(paths)):
            yield f"{where}: two mounts at one path"
        variables = [variable["name"] for variable in container.get("env", [])]
        if len(variables) != len(set(variables)):
            yield f"{where}: two variables with one name"
        mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
    if mounted != {*volumes, *claims}:
        yield f"{where}: volumes and mounts differ: {sorted(mounted ^ {*volumes, *claims})}"
    for kind, name in _referenced(spec):
        if (kind, name) not in names and name not in given:
            yield f"{where}: {kind} {name} does not exist"


def _referenced(spec: Manifest) -> Iterator[tuple[str, str]]:
    account = spec.get("serviceAccountName", "default")
    if account != "default":
        yield "ServiceAccount", account
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec["containers"]:
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", reference["name"]
        for source in container.get("envFrom", []):
            yield "Secret", source["secretRef"]["name"]


def _loose_selectors(manifests: Sequence[Manifest]) -> Iterator[str]:
    labels = [(template["metadata"]["labels"], template["spec"]) for _, template in pods_of(manifests)]
    for manifest in manifests:
        selector = _selector_of(manifest)
        if selector is None:
            continue
        chosen = [spec for found, spec in labels if selector.items() <= found.items()]
        if len(chosen) != 1:
            yield f"{manifest['kind']} {manifest['metadata']['name']} selects {len(chosen)} kinds of pods"
        for port in manifest["spec"].get("ports", []) if manifest["kind"] == "Service" else ():
            ports = {
                one["name"] for spec in chosen for container in spec["containers"] for one in container.get("ports", [])
            }
            if port["targetPort"] not in ports:
                yield f"Service {manifest['metadata']['name']} leads to port {port['targetPort']}"


def _selector_of(manifest: Manifest) -> Mapping[str, str] | None:
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Service":
            selector: Mapping[str, str] | None = spec["selector"]
        case "Deployment" | "StatefulSet" | "PodDisruptionBudget":
            selector = spec["selector"]["matchLabels"]
        case "NetworkPolicy":
            selector = spec["podSelector"]["matchLabels"]
        case _:
            selector = None
    return selector
