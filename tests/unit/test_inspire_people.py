"""Addresses, ages, words and links."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.inspire_app.links import Use, kept_form, link_secret, unsubscribe_fields
from softcart_assets.inspire_app.people import (
    age,
    age_band,
    email_key,
    phone_number,
    wants_no_more,
)


def test_case_and_ways_of_writing_make_no_other_account() -> None:
    assert email_key(" Ada@Example.COM ") == "ada@example.com"
    assert email_key("zoe\u0308@example.com") == email_key("zo\u00eb@example.com")
    assert email_key("a.da+x@example.com") == "a.da+x@example.com"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@localhost",
        "a@b@example.com",
        "a b@example.com",
        "ada@example.com\r\nBcc: all@example.com",
        "ada@exam\nple.com",
        "x" * 65 + "@example.com",
        "ada@example..com",
        # Nobody waits for years until it is refused.
        "ada@" + "a." * 100 + "!",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert email_key(text) is None


@given(st.emails())
def test_a_key_is_its_own_key(address: str) -> None:
    key = email_key(address)
    assert key is None or email_key(key) == key


@given(st.text())
def test_no_address_can_carry_a_header(text: str) -> None:
    key = email_key(text)
    assert key is None or not set(key) & set("\r\n <>,;")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+49 (170) 123-4567", "491701234567"),
        ("0049 170 1234567", "491701234567"),
        ("0170 1234567", None),
        ("+0170", None),
        ("+49 170 x", None),
        ("+١٢٣٤٥٦٧٨", None),
        ("", None),
    ],
)
def test_numbers_have_a_country(text: str, number: str | None) -> None:
    assert phone_number(text) == number


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("STOP", True),
        (" stop. ", True),
        ("Stopp!", True),
        ("ARRÊT", True),
        ("unsubscribe", True),
        ("Opt out", True),
        ("Stop all.", True),
        ("revoke", True),
        ("I cannot stop running", False),
        ("", False),
        ("yes", False),
    ],
)
def test_one_word_stops_messages(text: str, wanted: bool) -> None:
    assert wants_no_more(text) is wanted


def test_ages() -> None:
    assert age(date(2000, 2, 29), date(2026, 2, 28)) == 25
    assert age(date(2000, 2, 29), date(2026, 3, 1)) == 26
    assert [age_band(years) for years in (19, 20, 69, 70)] == [
        "under 20",
        "20s",
        "60s",
        "70 and over",
    ]


def test_a_secret_is_good_for_one_person_one_use_and_one_message() -> None:
    secrets = {
        link_secret(server, use, user, key)
        for server in (b"a" * 32, b"b" * 32)
        for use in Use
        for user in (1, 11)
        for key in ("1", "11")
    }
    assert len(secrets) == 2 * 3 * 2 * 2
    assert all(len(secret) == 43 for secret in secrets)
    assert len(kept_form(secrets.pop())) == 64


def test_one_click_unsubscription() -> None:
    address = "https://inspire.example.com/unsubscribe/abc"
    assert unsubscribe_fields(address) == {
        "List-Unsubscribe": f"<{address}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    for wrong in ("http://example.com/", "https://example.com/>\r\nBcc: x", "mailto:a@b.example"):
        with pytest.raises(ValueError, match="https"):
            unsubscribe_fields(wrong)
