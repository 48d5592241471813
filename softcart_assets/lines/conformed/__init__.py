"""What the lines of business share: customer, date, time of day, location, device."""

from softcart_assets.lines.model import Line, Published

LINE = Line(
    "conformed",
    "Dimensions that the lines of business share.",
    owner="team:data",
    published=(
        # Who knows a person of one line finds the same one in another.
        Published("dim_customer", indexes=(("customer_id",),), pii=("person_id",)),
        Published("dim_date"),
        Published("dim_time_of_day"),
        Published(
            "dim_location", not_pii={"city": "A list of cities says nothing about who lives there."}
        ),
        Published("dim_device"),
    ),
)
