"""The JSON schema of the manifest, for editors: generated from the types, never written by hand."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from containarium.model.environment import Environment
from containarium.model.environmentclass import EnvironmentClass
from containarium.model.hostmanifest import HostManifest
from containarium.model.quantity import Cpu, Duration, Size

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID: Final = "https://containarium.dev/schemas/environment.schema.json"
CLASS_SCHEMA_ID: Final = "https://containarium.dev/schemas/environmentclass.schema.json"
HOST_SCHEMA_ID: Final = "https://containarium.dev/schemas/host.schema.json"


class _Generator(GenerateJsonSchema):
    """Writes defaults as a manifest spells them, and leaves out what only repeats a field's name."""

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        return {"$schema": DIALECT, "$id": SCHEMA_ID, **super().generate(schema, mode)}

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Cpu | Duration | Size) else super().encode_default(dft)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = super().default_schema(schema)
        if "default" in inner and inner["default"] is None:
            del inner["default"]
        return inner

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (the name is pydantic's)
        return False


def environment_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) as plain data."""
    schema = Environment.model_json_schema(by_alias=True, schema_generator=_Generator)
    return {**schema, "title": "Containarium environment"}


def class_schema() -> dict[str, Any]:
    """The schema of an EnvironmentClass (draft 2020-12) as plain data."""
    schema = EnvironmentClass.model_json_schema(by_alias=True, schema_generator=_Generator)
    return {**schema, "$id": CLASS_SCHEMA_ID, "title": "Containarium environment class"}


def host_schema() -> dict[str, Any]:
    """The schema of a Host (draft 2020-12) as plain data."""
    schema = HostManifest.model_json_schema(by_alias=True, schema_generator=_Generator)
    return {**schema, "$id": HOST_SCHEMA_ID, "title": "Containarium host"}


def schema_text() -> str:
    """What schemas/environment.schema.json holds: sorted, two spaces, a newline at the end."""
    return _text(environment_schema())


def class_schema_text() -> str:
    """What schemas/environmentclass.schema.json holds, written the same way."""
    return _text(class_schema())


def host_schema_text() -> str:
    """What schemas/host.schema.json holds, written the same way."""
    return _text(host_schema())


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
