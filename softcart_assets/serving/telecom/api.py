"""The routes of the call centre's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apiflask import APIBlueprint
from flask import Response, current_app

from softcart_assets.serving.service import Age, Freshness, Service, fresh
from softcart_assets.serving.telecom import schemas, standard
from softcart_assets.web.problems import Problem

_ERRORS = {
    400: {"description": "The request cannot be read."},
    404: {"description": "Nobody has the number."},
    429: {
        "description": "The token has used up its requests of this minute, or too many tokens are "
        "shown that nobody knows."
    },
    503: {"description": "The answer is older than allowed, or the warehouse does not answer."},
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: told | {"content": {"application/json": {"schema": Problem}}}
    for status, told in _ERRORS.items()
}


def routes(service: Service) -> APIBlueprint:
    """Make the routes."""
    api = APIBlueprint("api", __name__, tag="Callers")

    # By POST: proxies and clients keep addresses in their logs.
    @api.post("/v1/caller")
    @api.auth_required(service.auth, roles=["people:read"])
    @api.input(schemas.OfNumber, location="json", arg_name="asked")
    @api.output(schemas.CallerAnswer, headers=Age)
    @api.doc(
        summary="Everything about a caller",
        description="Customer, plan, totals, bill, last calls and complaints in one answer. "
        "Needs the scope `people:read`. The look-up is noted.",
        responses=_RESPONSES,
    )
    def caller(asked: dict[str, Any]) -> Response:
        answer = service.about("number", asked["msisdn"], "caller", asked.get("max_age_ms"))
        # The database has written it, with all digits. To read it here would only cost time.
        return fresh(Response(answer.text, mimetype="application/json"), answer)

    def standard_route(
        path: str,
        name: str,
        asked_by: type[Freshness],
        schema: type[schemas._Typed],
        form: Callable[[dict[str, Any]], list[dict[str, Any]]],
        summary: str,
    ) -> None:
        @api.get(path, endpoint=name)
        @api.auth_required(service.auth, roles=["people:read"])
        @api.input(asked_by, location="query", arg_name="asked")
        @api.output(schema(many=True), headers=Age)
        @api.doc(
            summary=summary,
            description="Needs the scope `people:read`. The look-up is noted.",
            responses=_RESPONSES,
        )
        def view(asked: dict[str, Any]) -> Response:
            answer = service.about("number", asked["msisdn"], name, asked.get("max_age_ms"))
            text = current_app.json.dumps(form(answer.content()))
            return fresh(Response(text, mimetype="application/json"), answer)

    standard_route(
        standard.USAGE,
        "usage_consumption",
        schemas.OfResource,
        schemas.QueryUsageConsumption,
        standard.usage,
        "Usage till now (TMF677)",
    )
    standard_route(
        standard.BALANCE,
        "prepay_balance",
        schemas.OfResource,
        schemas.Bucket,
        standard.balance,
        "Prepaid balance (TMF654)",
    )
    standard_route(
        standard.ACCOUNT,
        "billing_account",
        schemas.OfContact,
        schemas.BillingAccount,
        standard.account,
        "Balances of the account (TMF666)",
    )
    return api
