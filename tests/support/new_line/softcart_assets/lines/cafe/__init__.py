"""The cafés: the line of business that a test adds, and that `docs/add-a-line.md` describes."""

from softcart_assets.lines.model import (
    NONE,
    PII,
    AddsUp,
    Column,
    Extract,
    Job,
    Line,
    Published,
    Source,
    Table,
)

CAFE = Source(
    "cafe",
    "mysql",
    "Guests and visits of the cafés.",
    tables=(
        Table(
            "customers",
            "One row per guest with a card.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the guest."),
                Column("full_name", PII, "Name of the guest."),
            ),
        ),
        Table(
            "visits",
            "One row per drink that was sold.",
            key=("id",),
            strategy="cdc",
            lake_partition="visited_at",
            columns=(
                Column("id", NONE, "Key of the visit."),
                Column("customer_id", PII, "The guest; null without a card."),
                Column("drink_id", NONE, "The drink, `_id` in drinks."),
                Column("amount", NONE, "Price that was paid, EUR."),
                Column("visited_at", NONE, "When the drink was sold, UTC."),
            ),
        ),
    ),
)

MENU = Source(
    "cafe_menu",
    "mongodb",
    "The menu of the cafés.",
    tables=(
        Table(
            "drinks",
            "One document per drink on the menu.",
            key=("_id",),
            strategy="snapshot",
            columns=(
                Column("_id", NONE, "Key of the drink."),
                Column("name", NONE, "Name on the menu."),
            ),
        ),
    ),
)

LINE = Line(
    "cafe",
    "The cafés in the stores.",
    owner="team:cafe",
    sources=(CAFE, MENU),
    published=(
        Published("fct_visits", totals=("amount",), latest="visited_at"),
        Published("dim_drink"),
        Published("agg_visits_by_drink", adds_up=(AddsUp("amount", "fct_visits", "amount"),)),
    ),
    jobs=(Job("agg_visits_by_drink", ("cafe.visits", "cafe_menu.drinks"), ("drink_id",)),),
    extracts=(
        Extract(
            "ext_visits_daily",
            "Visits per day and drink.",
            {
                "visit_date": "The day of the visit.",
                "drink_name": "Name on the menu.",
                "visit_count": "Visits.",
                "amount": "Paid, EUR.",
            },
            """
            SELECT f.visit_date, d.drink_name, count(*) AS visit_count,
                   sum(f.amount)::numeric(18, 2) AS amount
            FROM production.fct_visits f
            JOIN production.dim_drink d ON d.drink_key = f.drink_key
            GROUP BY f.visit_date, d.drink_name
            ORDER BY f.visit_date, d.drink_name
            """,
            totals={"amount": "sum(amount) FROM production.fct_visits"},
        ),
    ),
)
