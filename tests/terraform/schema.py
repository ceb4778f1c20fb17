"""A provider's schema, read out of the npm package of its CDKTF bindings.

The bindings were generated from the provider's own schema, and registries of npm packages can be reached where those of
providers cannot. What is lost on the way: which values an argument takes, and which arguments exclude each other.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SIMPLE = {"string": "string", "number": "number", "boolean": "bool"}
_STRUCT, _LIST, _SET, _MAP = 1, 2, 3, 4
_NESTING = {"struct": _STRUCT, "list": _LIST, "set": _SET, "map": _MAP}
_ARGUMENT = re.compile(
    r'^\s+([a-z_0-9]+): \{\s*\n\s+value: (.*?),\n\s+isBlock: (true|false),\n\s+type: "(\w+)",\n'
    r'\s+storageClassType: "(\w+)",',
    re.MULTILINE | re.DOTALL,
)
_GETTERS = {
    "String": "string", "Number": "number", "Boolean": "bool", "List": ["list", "string"],
    "NumberList": ["list", "number"], "NumberMap": ["map", "number"], "BooleanMap": ["map", "bool"],
    "StringMap": ["map", "string"], "AnyMap": ["map", "string"],
}  # fmt: skip
_GETTER = re.compile(rf"this\.get({'|'.join(_GETTERS)})Attribute\('(\w+)'\)")
_MAP_OF_STRINGS = re.compile(r"new cdktf\.StringMap\(this, ['\"](\w+)['\"]\)")
_SET_OF_STRINGS = re.compile(r"cdktf\.Fn\.tolist\(this\.getListAttribute\('(\w+)'\)\)")
_COMPUTED_LIST = re.compile(r"new (\w+)List\(this, [\"'](\w+)[\"'], (?:true|false)\)")
_INTERFACE = re.compile(r"^export interface (\w+)[^{]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^    readonly (\w+)(\??): (.*?);?$", re.MULTILINE)
_FUNCTION = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_CLASS = re.compile(r"^class (\w+) extends cdktf\.\w+ \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_RESOURCE = re.compile(r'(\w+)\.tfResourceType = "(\w+)"')
_USED = re.compile(r'^(resource|data) "([a-z0-9]+)_(\w+)"', re.MULTILINE)

Schema = dict[str, dict[str, Any]]
"""``provider``, ``resource`` and ``data``: by name, a block of ``attrs`` and nested ``blocks``."""


class SchemaError(Exception):
    """The package has not what is asked for."""


@dataclass(frozen=True)
class _Bindings:
    """One resource's generated JavaScript and its type definitions, taken apart."""

    classes: dict[str, str]
    functions: dict[str, str]
    interfaces: dict[str, dict[str, tuple[bool, str]]]
    """By name: field -> (required, TypeScript type)."""
    name: str = field(default="")
    class_name: str = field(default="")

    @classmethod
    def parse(cls, javascript: str, definitions: str) -> _Bindings:
        found = _RESOURCE.search(javascript)
        if found is None:
            raise SchemaError("no resource in it")
        interfaces = {
            name: {f: (mark == "", kind) for f, mark, kind in _FIELD.findall(body)}
            for name, body in _INTERFACE.findall(definitions)
        }
        return cls(
            dict(_CLASS.findall(javascript)), dict(_FUNCTION.findall(javascript)), interfaces, found[2], found[1]
        )

    def block(self, source: str, interface: str, body: str) -> dict[str, Any]:
        """What a block takes: `source` lists its arguments, `body` is the class that reads its attributes."""
        fields = self.interfaces.get(interface, {})
        attrs: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for name, value, is_block, kind, storage in _ARGUMENT.findall(source):
            required, typescript = fields.get(_camel(name), (False, ""))
            if is_block == "true":
                blocks[name] = self._nested(value, kind, required=required, many="[]" in typescript)
            else:
                attrs[name] = _attribute(_type(kind, storage), required=required, optional=not required)
        for name, kind in _attributes(body).items():
            if name in attrs:
                attrs[name]["computed"] = attrs[name]["optional"]
            elif name not in blocks:
                attrs[name] = _attribute(kind, computed=True)
        for of, name in _COMPUTED_LIST.findall(body):
            if name not in attrs and name not in blocks:
                attrs[name] = _attribute(["list", ["object", self._object(of)]], computed=True)
        return {"attrs": attrs, "blocks": blocks}

    def _nested(self, value: str, kind: str, *, required: bool, many: bool) -> dict[str, Any]:
        called = re.search(r"(\w+)ToHclTerraform", value)
        if called is None:
            raise SchemaError(f"{self.name}: a block without its function")
        function = called[1]
        name = function[0].upper() + function[1:]
        nesting = _NESTING[kind]
        inner = self.block(self.functions.get(function, ""), name, self.classes.get(f"{name}OutputReference", ""))
        least = 1 if required and nesting != _STRUCT else 0
        return {
            "nesting": nesting,
            "min": least,
            "max": 0 if many or nesting not in (_LIST, _SET) else 1,
            "block": inner,
        }

    def _object(self, name: str) -> dict[str, Any]:
        body = self.classes.get(f"{name}OutputReference", "")
        found: dict[str, Any] = dict(_attributes(body))
        for of, attribute in _COMPUTED_LIST.findall(body):
            found[attribute] = ["list", ["object", self._object(of)]]
        return found

    def whole(self) -> dict[str, Any]:
        """The resource's outermost block."""
        body = self.classes[self.class_name]
        start = body.find("synthesizeHclAttributes()")
        return self.block(body[start:] if start >= 0 else "", f"{self.class_name}Config", body)


def used(folder: Path, provider: str) -> frozenset[str]:
    """Folders of the bindings of all resources and data sources of a provider that the modules below a folder name."""
    texts = "\n".join(file.read_text() for file in sorted(folder.rglob("*.tf")))
    found = set()
    for kind, of, name in _USED.findall(texts):
        if of == provider:
            kebab = name.replace("_", "-")
            found.add(f"data-{provider}-{kebab}" if kind == "data" else kebab)
    return frozenset(found)


def read(package: Path, folders: Iterable[str]) -> Schema:
    """The schema of the provider itself and of these of its resources. Raises SchemaError for what it does not have."""
    wanted = {"provider", *folders}
    parts: dict[str, tuple[list[str], list[str]]] = {}
    with tarfile.open(package, "r:gz") as archive:
        for member in archive:
            path = member.name.split("/")
            if path[:2] != ["package", "lib"] or len(path) < 4 or path[2] not in wanted:
                continue
            index = 0 if path[-1].endswith(".js") else 1 if path[-1].endswith(".d.ts") else None
            content = archive.extractfile(member)
            if index is not None and content is not None:
                parts.setdefault(path[2], ([], []))[index].append(content.read().decode())
    missing = wanted - parts.keys()
    if missing:
        raise SchemaError(f"the provider has no {', '.join(sorted(missing))}")
    schema: Schema = {"provider": {}, "resource": {}, "data": {}}
    for folder, (javascript, definitions) in sorted(parts.items()):
        bindings = _Bindings.parse("".join(javascript), "".join(definitions))
        kind = "provider" if folder == "provider" else "data" if folder.startswith("data-") else "resource"
        schema[kind][bindings.name] = bindings.whole()
    for provider in schema["provider"].values():
        for attribute in provider["attrs"].values():
            attribute["computed"] = False
    return schema


def _attribute(kind: Any, *, required: bool = False, optional: bool = False, computed: bool = False) -> dict[str, Any]:
    return {"type": kind, "required": required, "optional": optional, "computed": computed}


def _type(kind: str, storage: str) -> Any:
    if kind == "simple":
        return _SIMPLE.get(storage, "string")
    match = re.match(r"(string|number|boolean|any)(?:List|Set|Map)?$", storage)
    return [kind, _SIMPLE.get(match[1], "string") if match else "string"]


def _attributes(body: str) -> dict[str, Any]:
    found: dict[str, Any] = {name: _GETTERS[getter] for getter, name in _GETTER.findall(body)}
    found |= {name: ["map", "string"] for name in _MAP_OF_STRINGS.findall(body)}
    return found | {name: ["set", "string"] for name in _SET_OF_STRINGS.findall(body)}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)
