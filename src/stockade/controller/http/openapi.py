"""The OpenAPI 3.1 document, made of the route table and the wire types alone: it cannot say what is not served."""

from typing import Any

import msgspec

import stockade
from stockade.wire.api import ErrorReply, Message, Role
from stockade.wire.routes import LARGEST, ROUTES, Media, Parameter, Route

REFERENCE = "#/components/schemas/{name}"
ERRORS = {
    "400": "The request is malformed",
    "403": "The caller's role does not allow it",
    "404": "There is no such thing",
    "409": "It is not as the caller thought",
    "413": "The request is too large",
    "422": "The documents or names in it are refused",
    "500": "Something unforeseen; the log has it",
    "503": "The store cannot be written or read",
}
ROLES = {Role.NOBODY: "anybody", Role.READ: "who may read", Role.APPLY: "who may apply"}


def document() -> dict[str, Any]:
    """Return the document."""
    schemas, components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.value.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stockade",
            "version": stockade.__version__,
            "description": "Served on a Unix socket. Who asks is the peer that the kernel names; there is no login.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _schemas() -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    types: list[Any] = [ErrorReply]
    types += [kind for route in ROUTES for kind in (route.reply, route.request, route.lines) if kind is not None]
    distinct = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(distinct, ref_template=REFERENCE)
    return dict(zip(distinct, schemas, strict=True)), components


def _operation(route: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"For {ROLES[route.role]}.",
        "parameters": [_parameter(each) for each in route.parameters],
        "responses": {"200": _reply(route, schemas), **_errors(schemas[ErrorReply])},
    }
    if route.request is not None:
        operation["requestBody"] = {"required": True, "content": _json(schemas[route.request])}
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    bounds = {"minimum": 0, "maximum": LARGEST} if parameter.type in (int, float) else {}
    return {
        "name": parameter.name,
        "in": "path" if parameter.path else "query",
        "required": parameter.path or parameter.required,
        "description": parameter.summary,
        "schema": {**msgspec.json.schema(parameter.type), **bounds},
    }


def _reply(route: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    content = _content(route.reply, route.media, schemas)
    if route.lines is not None:
        content[Media.LINES.value] = {"schema": schemas[route.lines]}
    return {"description": "Done", "content": content}


def _content(reply: type[Message] | None, media: Media, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if reply is not None:
        return _json(schemas[reply])
    return {media.value: {"schema": {"type": "string" if media is Media.METRICS else "object"}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {Media.JSON.value: {"schema": schema}}


def _errors(schema: dict[str, Any]) -> dict[str, Any]:
    return {status: {"description": text, "content": _json(schema)} for status, text in ERRORS.items()}
