"""Customers: new ones, changed ones, and their addresses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from seed_data.common.places import COUNTRIES, PLACES
from seed_data.shop.traffic.shop import Shop


def _person(shop: Shop) -> tuple[int, str, str]:
    """A country's number, a name and the start of an e-mail address."""
    rng, words = shop.rng, shop.words
    weights = [country.weight for country in COUNTRIES.values()]
    country = rng.choices(range(len(COUNTRIES)), weights)[0]
    first = rng.randrange(len(words.first_names[country]))
    last = rng.randrange(len(words.last_names[country]))
    name = f"{words.first_names[country][first]} {words.last_names[country][last]}"
    return country, name, f"{words.first_slugs[country][first]}.{words.last_slugs[country][last]}"


def new_customer(shop: Shop) -> None:
    """Somebody registers."""
    country, name, handle = _person(shop)
    customer = shop.sql.insert(
        "INSERT INTO customers (full_name, birth_date, gender, marketing_consent) "
        "VALUES (%s, %s, %s, %s)",
        name,
        datetime.now(UTC).date() - timedelta(days=shop.rng.randint(16 * 365, 80 * 365)),
        shop.rng.choice(("f", "m", "x", None)),
        shop.rng.randint(0, 1),
    )
    # The address contains the id, to be unique, and only the insert gives the id.
    shop.sql.write(
        "UPDATE customers SET email = %s WHERE id = %s",
        f"{handle}{customer}@mail.example",
        customer,
    )
    _add_address(shop, customer, country)


def _street(shop: Shop, country: int) -> str:
    return f"{shop.rng.choice(shop.words.streets[country])} {shop.rng.randint(1, 180)}"


def _add_address(shop: Shop, customer: int, country: int) -> None:
    code = list(COUNTRIES)[country]
    place = shop.rng.choice([place for place in PLACES if place.country == code])
    shop.sql.write(
        "INSERT INTO addresses (customer_id, kind, line1, city, region, postal_code, "
        "country_code, latitude, longitude, is_primary) "
        "VALUES (%s, 'shipping', %s, %s, %s, %s, %s, %s, %s, 1)",
        customer,
        _street(shop, country),
        place.city,
        place.region,
        "".join(
            str(shop.rng.randrange(10)) if character == "#" else character
            for character in place.postal
        ),
        code,
        Decimal(str(place.latitude)),
        Decimal(str(place.longitude)),
    )


def customer_change(shop: Shop) -> None:
    """A customer's tier, e-mail, phone or consent changes."""
    customer = shop.sql.random_id("customers")
    match shop.rng.randrange(4):
        case 0:
            shop.sql.write(
                "UPDATE customers SET loyalty_tier = %s WHERE id = %s",
                shop.rng.choice(("none", "bronze", "silver", "gold")),
                customer,
            )
        case 1:
            handle = _person(shop)[2]
            shop.sql.write(
                "UPDATE customers SET email = %s WHERE id = %s",
                f"{handle}{customer}@post.example",
                customer,
            )
        case 2:
            phone = f"+49 {shop.rng.randint(100, 999)} {shop.rng.randint(10**6, 10**7)}"
            shop.sql.write("UPDATE customers SET phone = %s WHERE id = %s", phone, customer)
        case 3:
            shop.sql.write(
                "UPDATE customers SET marketing_consent = 1 - marketing_consent WHERE id = %s",
                customer,
            )


def address_change(shop: Shop) -> None:
    """A customer moves: the primary address gives way to a new one, or is corrected."""
    address = shop.sql.random_id("addresses", "is_primary = 1")
    customer, code = shop.sql.one(
        "SELECT customer_id, country_code FROM addresses WHERE id = %s FOR UPDATE", address
    )
    country = list(COUNTRIES).index(code)
    if shop.rng.random() < 0.6:
        shop.sql.write("UPDATE addresses SET is_primary = 0 WHERE customer_id = %s", customer)
        _add_address(shop, customer, country)
    else:
        shop.sql.write(
            "UPDATE addresses SET line1 = %s, latitude = NULL, longitude = NULL WHERE id = %s",
            _street(shop, country),
            address,
        )


def deleted_address(shop: Shop) -> None:
    """A secondary address disappears."""
    shop.sql.write(
        "DELETE FROM addresses WHERE id = %s AND is_primary = 0",
        shop.sql.random_id("addresses", "is_primary = 0"),
    )
