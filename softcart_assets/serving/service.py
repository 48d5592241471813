"""What the routes of an API do alike: who asks, how often, how old an answer may be."""

from __future__ import annotations

from apiflask import HTTPTokenAuth, Schema, fields
from apiflask.validators import Range
from flask import Response, g

from softcart_assets.serving.asking import Answer, Asking
from softcart_assets.serving.tokens import SCOPES, Token, Tokens
from softcart_assets.web.limits import Limits
from softcart_assets.web.problems import problem, refuse


class Freshness(Schema):
    """The parameter of a request that says how old its answer may be."""

    max_age_ms = fields.Integer(
        validate=Range(min=0, max=86_400_000),
        metadata={
            "description": "How old the answer may be, in milliseconds. If it is older, or nobody "
            "knows how old it is, the status is 503."
        },
    )


class Age(Schema):
    """The headers that say how old an answer is."""

    as_of = fields.DateTime(
        data_key="As-Of",
        metadata={"description": "Everything that was committed at the sources until then is in."},
    )
    age_ms = fields.Integer(
        data_key="Age-Ms", metadata={"description": "How long ago that was, in milliseconds."}
    )


class Service:
    """The database, tokens and limits of a process, for routes."""

    def __init__(self, asking: Asking, limits: Limits) -> None:
        self.asking = asking
        self.tokens = Tokens(asking.tokens)
        self._limits = limits
        told = " ".join(f"`{name}`: {text}" for name, text in SCOPES.items())
        self.auth = HTTPTokenAuth(description=f"`softcart tokens create` makes it. Scopes: {told}")
        self.auth.verify_token(self._verified)
        self.auth.get_user_roles(lambda token: token.scopes)
        self.auth.error_processor(problem)

    def _verified(self, text: str) -> Token | None:
        token = self.tokens.of(text)
        if token:
            self.count(token)
        return token

    def count(self, token: Token) -> None:
        """Count a request. Raises an `HTTPError` if the token has used up its limit."""
        g.token_id = token.id
        if seconds := self._limits.hit(token.id, token.per_minute):
            raise refuse(
                429,
                f"The token may send {token.per_minute} requests a minute.",
                headers={"Retry-After": str(seconds)},
            )

    def about(self, by: str, wanted: str, resource: str, max_age_ms: int | None = None) -> Answer:
        """Look a person up for the token that asks, and note that.

        Raises an `HTTPError` if there is nobody, or if the answer is too old.
        """
        token = self.auth.current_user
        assert token, "the route asks for a token"
        answer = self.asking.about(by, wanted, token, resource)
        if answer is None:
            raise refuse(404, "Nobody is known by that.")
        if max_age_ms is not None and (answer.age_ms is None or answer.age_ms > max_age_ms):
            raise refuse(
                503,
                "The answer is older than max_age_ms. Ask again later, or allow more.",
                headers={"Retry-After": "1"},
                as_of=answer.as_of and answer.as_of.isoformat(),
                age_ms=answer.age_ms,
            )
        return answer


def fresh(response: Response, answer: Answer) -> Response:
    """Say in the headers how old an answer is, and that nobody may keep it."""
    response.headers["Cache-Control"] = "no-store"
    if answer.as_of:
        response.headers["As-Of"] = answer.as_of.isoformat()
        response.headers["Age-Ms"] = str(answer.age_ms)
    return response
