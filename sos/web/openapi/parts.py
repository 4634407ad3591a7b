"""Constructors for the parts of an OpenAPI document: schemas, parameters and responses."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial
from textwrap import dedent
from typing import Any

#: An object of OpenAPI, as JSON has it.
Part = Mapping[str, Any]

_JSON = "application/json"


class Shared(dict[str, Any]):
    """A part that the document has once, among its components.

    :param kind: ``schemas``, ``parameters``, ``responses`` or ``securitySchemes``.
    :param name: the name by which the document refers to it; empty to write it where it is used.
    """

    def __init__(self, kind: str, name: str, content: Part) -> None:
        super().__init__(content)
        self.kind = kind
        self.name = name


class Response(Shared):
    """A response, and its *status*."""

    def __init__(self, status: int, name: str, content: Part) -> None:
        super().__init__("responses", name, content)
        self.status = status


def _described(content: Part, description: str) -> Part:
    return {**content, "description": description} if description else content


def _typed(type: str, description: str = "", **more: object) -> Part:
    return _described({"type": type, **more}, description)


# Schemas.  Each takes a description, and other keywords of JSON Schema.
boolean = partial(_typed, "boolean")
string = partial(_typed, "string")
number = partial(_typed, "number")
#: A number of things, of bytes for one.
count = partial(_typed, "integer", minimum=0)


def array(items: Part, description: str = "", **more: object) -> Part:
    """Return the schema of an array of *items*."""
    return _typed("array", description, items=items, **more)


def mapping(values: Part, description: str = "", **more: object) -> Part:
    """Return the schema of an object with any names for *values*."""
    return _typed("object", description, additionalProperties=values, **more)


def _or_null(schema: Part) -> Part:
    if isinstance(schema, Shared):
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def _schema(type: str, types: Mapping[str, Part]) -> Part:
    if type.endswith("?"):
        return _or_null(_schema(type[:-1], types))
    if type.startswith("["):
        return array(_schema(type[1:-1], types))
    return mapping(_schema(type[1:-1], types)) if type.startswith("<") else types[type]


def record(
    table: str, types: Mapping[str, Part], description: str = "", closed: bool = False
) -> Part:
    """Return the schema of an object.

    :param table: has on each line the name of a property, its type and its description; further
        lines are indented.  A name that ends in ``?`` may be missing.  The type is one of *types*,
        or made of one: ``T?`` can be null, ``[T]`` is an array, ``<T>`` an object with any names.
    :param closed: whether there are no other properties.
    """
    properties: dict[str, Part] = {}
    required = []
    for line in re.split(r"\n+(?! )", dedent(table).strip()):
        property, type, *words = line.split()
        name = property.rstrip("?")
        properties[name] = _described(_schema(type, types), " ".join(words))
        if name == property:
            required.append(name)
    more: dict[str, object] = {"required": required} if required else {}
    if closed:
        more["additionalProperties"] = False
    return _typed("object", description, properties=properties, **more)


def records(text: str, types: Mapping[str, Part], closed: Collection[str]) -> dict[str, Part]:
    """Return *types*, and those in *text*, which has the name and description before each table.

    :param closed: the names of the objects that have no other properties.
    """
    found = dict(types)
    for each in re.split(r"\n\n+", dedent(text).strip()):
        head, _, table = each.partition("\n")
        name, *words = head.split()
        schema = record(table, found, " ".join(words), name in closed)
        found[name] = Shared("schemas", name, schema)
    return found


def _parameter(
    place: str,
    name: str,
    description: str = "",
    schema: Part | None = None,
    required: bool = False,
    **more: object,
) -> Shared:
    content = {"name": name, "in": place, "schema": schema or string(), **more}
    if required:
        content["required"] = True
    return Shared("parameters", name, _described(content, description))


# Parameters.  Each takes its name, a description and a schema, by default any string.
header = partial(_parameter, "header")
query = partial(_parameter, "query")
path = partial(_parameter, "path", required=True)


def body(
    schema: Part, media_type: str = _JSON, description: str = "", required: bool = True
) -> Part:
    """Return a request's body."""
    content = {"required": required, "content": {media_type: {"schema": schema}}}
    return _described(content, description)


def response(
    status: int,
    description: str,
    schema: Part | None = None,
    headers: Mapping[str, Part] | None = None,
    media_type: str = _JSON,
    name: str = "",
) -> Response:
    """Return a response with a body of *schema*, or without one."""
    content: dict[str, object] = {"description": description}
    if headers:
        content["headers"] = headers
    if schema is not None:
        content["content"] = {media_type: {"schema": schema}}
    return Response(status, name, content)


def sent(schema: Part, description: str = "") -> Part:
    """Return a header that a response always has."""
    return {**sometimes(description, schema), "required": True}


def sometimes(description: str, schema: Part | None = None) -> Part:
    """Return a header that a response can have, by default any string."""
    return _described({"schema": schema or string()}, description)
