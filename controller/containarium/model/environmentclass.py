"""The EnvironmentClass manifest: what many environments have in common, written once.

An Environment names its class in ``spec.class``. What it says itself counts; then what its class says; then the
defaults. Mappings (``resources``, ``snapshots``, ``deletion``, ``metadata.labels``) are taken field by field, lists
and all else as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, create_model

from containarium.model import fields
from containarium.model.base import ManifestModel
from containarium.model.environment import Environment, LabelKey, LabelValue, Spec

KIND: Final = "EnvironmentClass"
OWN_FIELDS: Final = frozenset({"ssh_keys", "network", "class_name"})
"""What is one person's alone: no class has it."""


class ClassMetadata(ManifestModel):
    """What the class is called, and the labels of all who are in it."""

    name: Annotated[
        str,
        AfterValidator(fields.check_class_name),
        WithJsonSchema({"type": "string", "pattern": fields.NAME_PATTERN, "maxLength": fields.NAME_MAX}),
    ] = Field(description="What environments name in spec.class.", examples=["student"])
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Labels of all who are in it.", examples=[{"course": "unix"}]
    )


if TYPE_CHECKING:

    class ClassSpec(Spec):
        """What the environments of a class have in common."""
else:
    ClassSpec = create_model(
        "ClassSpec",
        __base__=ManifestModel,
        __doc__="What the environments of a class have in common.",
        **{name: (field.annotation, field) for name, field in Spec.model_fields.items() if name not in OWN_FIELDS},
    )


class EnvironmentClass(ManifestModel):
    """What many environments have in common. Each names it in its spec.class, and may say otherwise itself."""

    api_version: Literal["containarium.dev/v1"] = Field(description="Version of this format.")
    kind: Literal["EnvironmentClass"] = Field(description="What this document declares.")
    metadata: ClassMetadata = Field(description="What it is called.")
    spec: ClassSpec = Field(description="What its environments are like, where they do not say otherwise.")


def merged(environment: Environment, named: EnvironmentClass) -> Environment:
    """The environment with what its class adds. It names no class any more: it says everything itself."""
    own = environment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    common = named.model_dump(mode="json", by_alias=True, exclude_unset=True)
    spec = _over(common["spec"], own["spec"])
    del spec["class"]
    labels = {**common["metadata"].get("labels", {}), **own["metadata"].get("labels", {})}
    metadata = {**own["metadata"], **({"labels": labels} if labels else {})}
    return Environment.model_validate({**own, "metadata": metadata, "spec": spec})


def _over(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What both say, the own word last."""
    found = dict(common)
    for name, value in own.items():
        below = found.get(name)
        found[name] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found
