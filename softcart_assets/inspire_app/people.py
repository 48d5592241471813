"""What addresses, ages and words of people mean."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

from softcart_assets.lines.inspire.groups import AGE_BANDS, OLDEST

_ADDRESS: Final = re.compile(
    # No point within a label. With it, a long name could be read in so many ways that to refuse it
    # would take years.
    r"[^\s@<>\"(),:;\\\[\]\x00-\x1f\x7f]{1,64}@(?:[^\s@<>().,:;\\\"\[\]\x00-\x1f]{1,63}\.)+[^\s@<>().,:;\\\"\[\]\x00-\x1f]{2,63}"
)
_NUMBER: Final = re.compile(r"[1-9]\d{6,14}")

_STOP: Final = frozenset(
    {"stop", "unsubscribe", "cancel", "end", "quit", "revoke", "stopp", "arret", "arrêt", "alto"}
)
_START: Final = frozenset({"start", "unstop"})
_YES: Final = frozenset({"yes", "ja", "oui", "sí", "si"})


def email_key(address: str) -> str | None:
    """The form by which an address is compared: two of one key are one account. None: no address.

    Only case and the way of writing letters are made alike. Dots and what is behind a plus stay, as
    not every provider ignores them.
    """
    key = unicodedata.normalize("NFC", address.strip()).casefold()
    # Casefolding may take a text out of the normal form.
    key = unicodedata.normalize("NFC", key)
    return key if len(key) <= 254 and _ADDRESS.fullmatch(key) else None


def phone_number(text: str) -> str | None:
    """A number in the form of E.164 without +. None if it has no country or is no number."""
    digits = re.sub(r"[\s().\-/\u00a0]", "", text)
    prefix = "+" if digits.startswith("+") else "00" if digits.startswith("00") else ""
    number = digits.removeprefix(prefix)
    return number if prefix and number.isascii() and _NUMBER.fullmatch(number) else None


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name. One that nobody knows is UTC: the others must get messages."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return ZoneInfo("UTC")


def wants_no_more(text: str) -> bool:
    """Whether somebody who answers a text message wants no more of them."""
    return _word(text) in _STOP or "".join(_words(text)) in ("optout", "stopall")


def wants_them_again(text: str) -> bool:
    """Whether somebody takes that back."""
    return _word(text) in _START


def says_yes(text: str) -> bool:
    """Whether somebody wants messages at the number from which this comes."""
    return _word(text) in _YES


def _word(text: str) -> str | None:
    words = _words(text)
    return words[0] if len(words) == 1 else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFC", text).casefold())


def age(birth: date, day: date) -> int:
    """Full years on a day. Who was born on 29 February is older from 1 March on in other years."""
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def age_band(years: int) -> str:
    """The group of an age in the insights."""
    return next((name for below, name in AGE_BANDS if years < below), OLDEST)
