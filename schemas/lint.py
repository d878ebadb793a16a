"""The rules of the house for contracts, beyond what Avro asks. Source: design/40, "Layout".

They work on the JSON as written and not on the parsed types, because they are about what a
parser drops (docs, order of writing) and because one file may break several at once.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from iu_core.events import StructureEvent
from schemas.avro_types import UUID_NAME
from schemas.conversion import UNKNOWN
from schemas.findings import Finding, Kind
from schemas.source import JsonPath, shown

NAMESPACE: Final = "iu.structure"
HEADER: Final = tuple(StructureEvent.model_fields)
UUID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class SchemaFile:
    """An `.avsc` file that is JSON. `places` has the line of each value, by its path."""

    event_type: str
    version: int
    file: str
    schema: Any
    places: dict[JsonPath, int] = field(repr=False)

    def finding(self, rule: str, path: JsonPath, what: str, fix: str, kind: Kind = Kind.LINT) -> Finding:
        """Return a finding at `path`, on the line of the nearest value that exists."""
        known = path
        while known not in self.places:
            known = known[:-1]
        return Finding(kind, rule, self.file, self.places[known], shown(path), what, fix)


def lint(files: Sequence[SchemaFile]) -> list[Finding]:
    """Return every breach of a rule, in the files alone and among each other."""
    findings = [finding for file in files for finding in _lint_file(file)]
    newest: dict[str, SchemaFile] = {}
    for file in sorted(files, key=lambda file: file.version):
        newest[file.event_type] = file
    # Only the newest are compared: an older version keeps the header that it was released with.
    return [*findings, *_header_differs(newest.values()), *_named_types_differ(newest.values())]


def _lint_file(file: SchemaFile) -> Iterator[Finding]:
    schema = file.schema
    if not isinstance(schema, dict):
        return
    if schema.get("namespace") != NAMESPACE:
        what = f"the namespace is {schema.get('namespace')!r}"
        yield file.finding("namespace", ("namespace",), what, f'write "{NAMESPACE}", without a version')
    if schema.get("name") != file.event_type:
        what = f"the record is called {schema.get('name')!r}, its folder {file.event_type!r}"
        yield file.finding("record-name", ("name",), what, "call both alike: the name is the event type")
    for path, node in _nodes(schema, ()):
        yield from _lint_node(file, path, node)


def _nodes(value: Any, path: JsonPath) -> Iterator[tuple[JsonPath, dict[str, Any]]]:
    """Yield every JSON object of a schema with its path, the outer before the inner."""
    if isinstance(value, dict):
        yield path, value
        for key in value.keys() - {"default", "doc"}:
            yield from _nodes(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nodes(item, (*path, index))


def _lint_node(file: SchemaFile, path: JsonPath, node: dict[str, Any]) -> Iterator[Finding]:
    is_field = len(path) > 1 and path[-2] == "fields"
    name = node.get("name")
    # A field's "type" may be the word "enum" only by mistake, and then the parser says so.
    kind = None if is_field else node.get("type")
    if is_field or kind in ("record", "enum", "fixed"):
        doc = node.get("doc")
        if not isinstance(doc, str) or not doc.strip():
            what = f"{kind or 'field'} {name!r} has no doc"
            yield file.finding("doc", path, what, "say in a sentence what it holds, and its unit")
    if path and "namespace" in node:
        yield file.finding("namespace", (*path, "namespace"), "an inner type has a namespace", "leave it out")
    if kind == "enum" and node.get("default") != UNKNOWN:
        what = f"enum {name!r} has no default {UNKNOWN}"
        fix = f'add the symbol and "default": "{UNKNOWN}": an older reader puts it for a newer symbol'
        yield file.finding("enum-default", (*path, "default"), what, fix)
    if is_field and "logicalType" in node:
        what = f"the logicalType of field {name!r} stands beside its type, where Avro ignores it"
        fix = 'put it inside: "type": {"type": ..., "logicalType": ...}'
        yield file.finding("logical-type", (*path, "logicalType"), what, fix)
    elif not is_field:
        yield from _lint_logical_type(file, path, node)


def _lint_logical_type(file: SchemaFile, path: JsonPath, node: dict[str, Any]) -> Iterator[Finding]:
    logical, kind = node.get("logicalType"), node.get("type")
    is_uuid = kind == "fixed" and node.get("name") == UUID_NAME
    if is_uuid != (logical == "uuid") or (is_uuid and node.get("size") != UUID_BYTES):
        what = (
            f"{node.get('name')!r} is not all of: called {UUID_NAME}, fixed({UUID_BYTES}), logicalType uuid"
        )
        yield file.finding("uuid", path, what, "all three or none: one name, one spelling in JSON")
    if logical not in (None, "uuid") and (kind, logical) != ("long", "timestamp-micros"):
        what = f"logicalType {logical!r} on {kind!r}"
        fix = 'times are {"type": "long", "logicalType": "timestamp-micros"}; there are no others'
        yield file.finding("logical-type", (*path, "logicalType"), what, fix)


def _header_differs(files: Iterable[SchemaFile]) -> Iterator[Finding]:
    headers = {file: _fields(file)[: len(HEADER)] for file in files}
    for index, name in enumerate(HEADER):
        written = {file: json.dumps(fields[index : index + 1]) for file, fields in headers.items()}
        usual = Counter(written.values()).most_common(1)[0][0] if written else None
        for file, text in written.items():
            here = headers[file][index].get("name") if index < len(headers[file]) else None
            if here != name:
                what = f"field {index + 1} is {here!r}; that of the header block is {name!r}"
            elif text != usual:
                what = f"header field {name!r} is not written as in the other events"
            else:
                continue
            fix = "copy the header block from another event, letter by letter"
            yield file.finding("header", ("fields", index), what, fix)


def _named_types_differ(files: Iterable[SchemaFile]) -> Iterator[Finding]:
    found: dict[str, list[tuple[SchemaFile, JsonPath, str]]] = defaultdict(list)
    for file in files:
        for path, node in _nodes(file.schema, ()):
            if path and path[-2:-1] != ("fields",) and node.get("type") in ("record", "enum", "fixed"):
                found[str(node.get("name"))].append((file, path, json.dumps(node, sort_keys=True)))
    for name, definitions in found.items():
        usual = Counter(text for _, _, text in definitions).most_common(1)[0][0]
        for file, path, text in definitions:
            if text != usual:
                what = f"{name} is not what other events call {name}"
                yield file.finding(
                    "named-type", path, what, "make the definitions equal, or give it another name"
                )


def _fields(file: SchemaFile) -> list[dict[str, Any]]:
    fields = file.schema.get("fields") if isinstance(file.schema, dict) else None
    return [entry if isinstance(entry, dict) else {} for entry in fields] if isinstance(fields, list) else []
