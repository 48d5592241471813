"""Errors as problem details (RFC 9457). None of them repeats what was asked for."""

from __future__ import annotations

from typing import Any

from apiflask import HTTPError, Schema, fields
from flask import Response, current_app, g

_STATUS = {
    400: "The request cannot be read.",
    401: "Show a valid token: `Authorization: Bearer <token>`.",
    403: "The token is not for this.",
    404: "There is nothing here.",
    405: "This cannot be done here.",
    422: "The request has values that are of no use.",
    500: "The server has made a mistake. The log has it under this instance.",
}


class Problem(Schema):
    """The body of every error, as `application/problem+json`."""

    type = fields.String(metadata={"description": "Always `about:blank`: the status says it all."})
    title = fields.String(metadata={"description": "The name of the status."})
    status = fields.Integer()
    detail = fields.String(metadata={"description": "What happened and what to do."})
    instance = fields.String(metadata={"description": "Tells this error from others, in the log."})
    errors = fields.Dict(metadata={"description": "The parameters that are wrong, and why."})
    as_of = fields.DateTime(
        allow_none=True, metadata={"description": "Of an answer that was too old: as of when."}
    )
    age_ms = fields.Integer(
        allow_none=True, metadata={"description": "Of an answer that was too old: its age."}
    )


def problem(error: HTTPError) -> Response:
    """The answer for an error."""
    detail = _STATUS.get(error.status_code)
    if error.extra_data.get("told") or detail is None:
        detail = error.message
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPError(error.status_code).message,
        "status": error.status_code,
        "detail": detail,
        "instance": g.instance,
    }
    if error.status_code == 422 and error.detail:
        body["errors"] = error.detail
    body |= {name: value for name, value in error.extra_data.items() if name != "told"}
    return Response(
        current_app.json.dumps(body),
        error.status_code,
        {**dict(error.headers), "Cache-Control": "no-store"},
        mimetype="application/problem+json",
    )


def refuse(status: int, detail: str, **more: Any) -> HTTPError:
    """An error whose text is told. `headers`: of the answer. Others become members of its body."""
    headers = more.pop("headers", {})
    return HTTPError(status, detail, headers=headers, extra_data={"told": True, **more})
