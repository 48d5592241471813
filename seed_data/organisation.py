"""The company itself: stores, vendors and employees, and what sales need to know of them.

They are few, so the driver makes them with Python and Faker. Columns are those of `schema.sql`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from faker import Faker

from seed_data.parameters import Parameters, epoch_microseconds
from seed_data.places import COUNTRIES, PLACES

EMPLOYEES_PER_STORE = 9
"""On average; the first of each store manages it and never left."""


@dataclass
class Organisation:
    """The three tables, and lists by store (in the order of their ids) and by employee.

    `open_from`, `open_until`, `hired` and `left` are epoch microseconds. Online stores come first.
    """

    stores: pa.Table
    vendors: pa.Table
    employees: pa.Table
    online_stores: int
    open_from: list[int]
    open_until: list[int]
    first_employee: list[int]
    employee_count: list[int]
    hired: list[int]
    left: list[int]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def make_organisation(parameters: Parameters) -> Organisation:
    """The company at `parameters.until`."""
    rng = random.Random(f"{parameters.seed}/organisation")
    fakers = {code: Faker(country.locale) for code, country in COUNTRIES.items()}
    for faker in fakers.values():
        faker.seed_instance(f"{parameters.seed}/organisation")
    start = datetime.fromtimestamp(parameters.start / 1e6, UTC)
    until = parameters.until
    never = parameters.end + 1

    def some_time(low: datetime, high: datetime) -> datetime:
        return low + timedelta(
            microseconds=int((high - low) / timedelta(microseconds=1) * rng.random())
        )

    stores: list[dict[str, Any]] = []
    employees: list[dict[str, Any]] = []
    online_stores = max(2, parameters.stores // 5)
    first_employee, employee_count = [], []
    places = sorted(PLACES, key=lambda place: -place.weight * COUNTRIES[place.country].weight)
    for number in range(parameters.stores):
        online = number < online_stores
        place = places[number % len(places)]
        opened = (start - timedelta(days=rng.randint(300, 2500))).date()
        closed = None
        # The last store opened on the way, the one before it closed; never the first of a channel.
        if not online and number > online_stores:
            if number == parameters.stores - 1:
                opened = (start + timedelta(days=200)).date()
            elif number == parameters.stores - 2:
                closed = (start + timedelta(days=500)).date()
        stores.append(
            {
                "id": number + 1,
                "code": f"{'WEB' if online else place.country}-{number + 1:03}",
                "name": f"SoftCart Online {number + 1}" if online else f"SoftCart {place.city}",
                "channel": "online" if online else "physical",
                "country_code": "DE" if online else place.country,
                "city": None if online else place.city,
                "region": None if online else place.region,
                "opened_on": opened,
                "closed_on": closed,
                "floor_area_m2": None if online else Decimal(rng.randint(12_000, 240_000)) / 100,
                "created_at": some_time(_midnight(opened) - timedelta(days=60), _midnight(opened)),
                "updated_at": some_time(start, until)
                if closed is None
                else _midnight(closed) + timedelta(hours=18),
            }
        )
        first_employee.append(len(employees) + 1)
        faker = fakers["DE" if online else place.country]
        for position in range(rng.randint(EMPLOYEES_PER_STORE - 4, EMPLOYEES_PER_STORE + 4)):
            role = (
                "manager"
                if position == 0
                else rng.choice(
                    ("support", "support", "warehouse")
                    if online
                    else ("clerk", "clerk", "clerk", "warehouse")
                )
            )
            hired = opened if position == 0 else some_time(_midnight(opened), until).date()
            left = None
            if position and rng.random() < 0.25:
                left = some_time(_midnight(hired), until).date()
            name = faker.name()
            employees.append(
                {
                    "id": len(employees) + 1,
                    "store_id": number + 1,
                    "full_name": name,
                    "email": f"employee{len(employees) + 1}@softcart.example",
                    "role": role,
                    "hired_on": hired,
                    "left_on": left,
                    "salary_amount": Decimal(
                        rng.randint(180_000, 390_000) * (14 if role == "manager" else 10)
                    )
                    / 100,
                    "created_at": _midnight(hired)
                    + timedelta(hours=8, seconds=rng.randrange(3600)),
                    "updated_at": (_midnight(left) if left else _midnight(hired))
                    + timedelta(hours=9),
                }
            )
        employee_count.append(len(employees) + 1 - first_employee[-1])

    vendors = []
    for number in range(parameters.vendors):
        code = rng.choices(list(COUNTRIES), [country.weight for country in COUNTRIES.values()])[0]
        created = some_time(start - timedelta(days=1500), start)
        vendors.append(
            {
                "id": number + 1,
                "name": fakers[code].company(),
                "country_code": code,
                "contact_email": None
                if rng.random() < 0.1
                else f"sales@vendor{number + 1}.example",
                "contact_phone": None if rng.random() < 0.2 else fakers[code].phone_number(),
                "rating": None if rng.random() < 0.1 else Decimal(rng.randint(200, 500)) / 100,
                "is_active": int(rng.random() < 0.93),
                "created_at": created,
                "updated_at": some_time(created, until),
            }
        )
    return Organisation(
        pa.Table.from_pylist(stores, _STORES),
        pa.Table.from_pylist(vendors, _VENDORS),
        pa.Table.from_pylist(employees, _EMPLOYEES),
        online_stores,
        [epoch_microseconds(_midnight(store["opened_on"])) for store in stores],
        [
            epoch_microseconds(_midnight(store["closed_on"])) if store["closed_on"] else never
            for store in stores
        ],
        first_employee,
        employee_count,
        [epoch_microseconds(_midnight(employee["hired_on"])) for employee in employees],
        [
            epoch_microseconds(_midnight(employee["left_on"])) if employee["left_on"] else never
            for employee in employees
        ],
    )


_TIME = pa.timestamp("us", tz="UTC")
_STORES = pa.schema(
    [
        ("id", pa.int64()),
        ("code", pa.string()),
        ("name", pa.string()),
        ("channel", pa.string()),
        ("country_code", pa.string()),
        ("city", pa.string()),
        ("region", pa.string()),
        ("opened_on", pa.date32()),
        ("closed_on", pa.date32()),
        ("floor_area_m2", pa.decimal128(8, 2)),
        ("created_at", _TIME),
        ("updated_at", _TIME),
    ]
)
_VENDORS = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("country_code", pa.string()),
        ("contact_email", pa.string()),
        ("contact_phone", pa.string()),
        ("rating", pa.decimal128(3, 2)),
        ("is_active", pa.int64()),
        ("created_at", _TIME),
        ("updated_at", _TIME),
    ]
)
_EMPLOYEES = pa.schema(
    [
        ("id", pa.int64()),
        ("store_id", pa.int64()),
        ("full_name", pa.string()),
        ("email", pa.string()),
        ("role", pa.string()),
        ("hired_on", pa.date32()),
        ("left_on", pa.date32()),
        ("salary_amount", pa.decimal128(10, 2)),
        ("created_at", _TIME),
        ("updated_at", _TIME),
    ]
)
