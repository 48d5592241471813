"""What providers and mail programs call: unsubscription, answers, bounces and complaints.

Nobody is signed in here, and there is no cookie. Each request proves itself: by a secret in its
address, by a signature, or by a token.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from flask import Blueprint, Response, abort, render_template, request

from softcart_assets.inspire_app.hooks.reports import report
from softcart_assets.inspire_app.links import Use, link_secret
from softcart_assets.inspire_app.outbox import Message, is_key
from softcart_assets.inspire_app.people import phone_number
from softcart_assets.inspire_app.senders.twilio import lasting, signature
from softcart_assets.inspire_app.storage.outbox import OutboxTable

_LARGEST_REPORT: Final = 1_000_000

_NO_ANSWER: Final = '<?xml version="1.0" encoding="UTF-8"?><Response/>'
"""TwiML that answers nothing: the provider itself confirms STOP."""


@dataclass(frozen=True)
class HookSettings:
    """`secret`: the server's. `url`: of the application, as others reach it.

    `twilio_token`: the secret of Twilio's signatures. `mail_token`: of reports about mails. Without
    one, there is no such hook.
    """

    secret: bytes
    url: str
    twilio_token: str = ""
    mail_token: str = ""


def create_hooks(
    open_outbox: Callable[[], AbstractContextManager[OutboxTable]],
    settings: HookSettings,
    clock: Callable[[], datetime],
) -> Blueprint:
    """The routes. The application must not ask them for a token of a form."""
    hooks = Blueprint("hooks", __name__, template_folder="templates")
    routes = _Hooks(open_outbox, settings, clock)
    for rule, view, methods in (
        ("/unsubscribe/<key>/<secret>", routes.unsubscribe, ["GET", "POST"]),
        ("/hooks/twilio/incoming", routes.incoming, ["POST"]),
        ("/hooks/twilio/status", routes.status, ["POST"]),
        ("/hooks/mail", routes.mail, ["POST"]),
    ):
        hooks.add_url_rule(rule, view.__name__, view, methods=methods)
    return hooks


class _Hooks:
    def __init__(
        self,
        open_outbox: Callable[[], AbstractContextManager[OutboxTable]],
        settings: HookSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._open, self._settings, self._clock = open_outbox, settings, clock

    def unsubscribe(self, key: str, secret: str) -> tuple[str, int]:
        """RFC 8058. Programs that look at links must not unsubscribe anybody, so GET asks."""
        with self._open() as outbox:
            message = outbox.message(key) if is_key(key) else None
            if message is None or not self._is_right(message, secret):
                return render_template("unsubscribe.html", message=None, is_done=False), 404
            is_done = request.method == "POST"
            if is_done:
                outbox.unsubscribe(message, self._clock())
        return render_template("unsubscribe.html", message=message, is_done=is_done), 200

    def _is_right(self, message: Message, secret: str) -> bool:
        if message.user_id is None:
            return False
        right = link_secret(self._settings.secret, Use.UNSUBSCRIBE, message.user_id, message.key)
        return hmac.compare_digest(right.encode(), secret.encode())

    def incoming(self) -> Response:
        """Somebody has answered a text message."""
        form = self._signed()
        phone, text = phone_number(form.get("From", "")), form.get("Body", "")
        # OptOutType: what Twilio took for STOP, in languages that it knows.
        kind = form.get("OptOutType", "").upper()
        if phone:
            with self._open() as outbox:
                outbox.answer(phone, kind if kind in ("STOP", "START") else text, self._clock())
        return Response(_NO_ANSWER, mimetype="text/xml")

    def status(self) -> Response:
        """A text message has arrived, or never will."""
        form = self._signed()
        state = form.get("MessageStatus", "")
        if state in ("delivered", "undelivered", "failed"):
            with self._open() as outbox:
                # The signature covers the key, too.
                key = request.args.get("key") or outbox.key_of(form.get("MessageSid", ""))
                if key and state == "delivered":
                    outbox.delivered(key, self._clock())
                elif key:
                    code = form.get("ErrorCode", "")
                    outbox.bounced(key, code[:20], self._clock(), lasting(code))
        return Response(status=204)

    def _signed(self) -> dict[str, str]:
        token = self._settings.twilio_token
        if not token:
            abort(404)
        form = request.form.to_dict()
        # The proxy before us may be called otherwise.
        url = self._settings.url.rstrip("/") + request.full_path.rstrip("?")
        given = request.headers.get("X-Twilio-Signature", "")
        if not hmac.compare_digest(signature(token, url, form).encode(), given.encode()):
            abort(403)
        return form

    def mail(self) -> Response:
        """A mail about a mail, as the mail server has received it."""
        token = self._settings.mail_token
        if not token:
            abort(404)
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(f"Bearer {token}".encode(), given.encode()):
            abort(403)
        request.max_content_length = _LARGEST_REPORT
        found = report(request.get_data())
        if found:
            with self._open() as outbox:
                outbox.bounced(found.key, found.detail, self._clock(), found.lasting)
        return Response(status=204)
