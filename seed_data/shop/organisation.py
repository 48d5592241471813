"""The company itself: stores, vendors and employees, also as lists for the sales.

They are few, so the driver makes them with Python and Faker. The columns are those of `shop.sql`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from faker import Faker

from seed_data.common.parameters import epoch_microseconds
from seed_data.common.places import COUNTRIES, PLACES
from seed_data.shop.parameters import ShopParameters

EMPLOYEES_PER_STORE = 9
"""On average. The first employee of each store is its manager, who never leaves."""

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


Row = dict[str, Any]


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


def make_organisation(parameters: ShopParameters) -> Organisation:
    """The company at `parameters.until`."""
    recruiter = _Recruiter(parameters)
    stores: list[Row] = []
    employees: list[Row] = []
    first_employee, employee_count = [], []
    for number in range(parameters.stores):
        store = recruiter.store(number)
        staff = recruiter.staff(store, len(employees) + 1)
        stores.append(store)
        first_employee.append(len(employees) + 1)
        employee_count.append(len(staff))
        employees += staff
    vendors = [recruiter.vendor(number) for number in range(parameters.vendors)]
    never = parameters.end + 1
    return Organisation(
        pa.Table.from_pylist(stores, _STORES),
        pa.Table.from_pylist(vendors, _VENDORS),
        pa.Table.from_pylist(employees, _EMPLOYEES),
        recruiter.online_stores,
        [_microseconds(store["opened_on"], never) for store in stores],
        [_microseconds(store["closed_on"], never) for store in stores],
        first_employee,
        employee_count,
        [_microseconds(employee["hired_on"], never) for employee in employees],
        [_microseconds(employee["left_on"], never) for employee in employees],
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _microseconds(day: date | None, never: int) -> int:
    return epoch_microseconds(_midnight(day)) if day else never


class _Recruiter:
    """Makes rows one by one. Each draws from the same random numbers, so the order matters."""

    def __init__(self, parameters: ShopParameters) -> None:
        self.online_stores = max(2, parameters.stores // 5)
        self._parameters = parameters
        self._start = datetime.fromtimestamp(parameters.start / 1e6, UTC)
        self._rng = random.Random(f"{parameters.seed}/organisation")
        # The first stores are in the cities with most customers.
        self._places = sorted(
            PLACES, key=lambda place: -place.weight * COUNTRIES[place.country].weight
        )
        self._fakers = {code: Faker(country.locale) for code, country in COUNTRIES.items()}
        for faker in self._fakers.values():
            faker.seed_instance(f"{parameters.seed}/organisation")

    def _some_time(self, low: datetime, high: datetime) -> datetime:
        microseconds = (high - low) / timedelta(microseconds=1) * self._rng.random()
        return low + timedelta(microseconds=int(microseconds))

    def store(self, number: int) -> Row:
        """The store with that number, from 0."""
        place = self._places[number % len(self._places)]
        opened, closed = self._life(number)
        row: Row = {
            "id": number + 1,
            "code": f"{place.country}-{number + 1:03}",
            "name": f"SoftCart {place.city}",
            "channel": "physical",
            "country_code": place.country,
            "city": place.city,
            "region": place.region,
            "opened_on": opened,
            "closed_on": closed,
        }
        if number < self.online_stores:
            row |= {
                "code": f"WEB-{number + 1:03}",
                "name": f"SoftCart Online {number + 1}",
                "channel": "online",
                "country_code": "DE",
                "city": None,
                "region": None,
            }
        else:
            row["floor_area_m2"] = Decimal(self._rng.randint(12_000, 240_000)) / 100
        row["created_at"] = self._some_time(
            _midnight(opened) - timedelta(days=60), _midnight(opened)
        )
        if closed is None:
            row["updated_at"] = self._some_time(self._start, self._parameters.until)
        else:
            row["updated_at"] = _midnight(closed) + timedelta(hours=18)
        return row

    def _life(self, number: int) -> tuple[date, date | None]:
        """When a store opened and closed.

        The last store opens during the time of the data, and the one before it closes. The first
        store of a channel always exists, so that every order finds a store.
        """
        opened = (self._start - timedelta(days=self._rng.randint(300, 2500))).date()
        if number <= self.online_stores:
            return opened, None
        if number == self._parameters.stores - 1:
            return (self._start + timedelta(days=200)).date(), None
        if number == self._parameters.stores - 2:
            return opened, (self._start + timedelta(days=500)).date()
        return opened, None

    def staff(self, store: Row, first_id: int) -> list[Row]:
        """The employees of a store."""
        count = self._rng.randint(EMPLOYEES_PER_STORE - 4, EMPLOYEES_PER_STORE + 4)
        return [
            self._employee(store, first_id + position, position == 0) for position in range(count)
        ]

    def _employee(self, store: Row, number: int, is_manager: bool) -> Row:
        rng, opened, until = self._rng, store["opened_on"], self._parameters.until
        role, hired, left = "manager", opened, None
        if not is_manager:
            role = rng.choice(
                ("support", "support", "warehouse")
                if store["channel"] == "online"
                else ("clerk", "clerk", "clerk", "warehouse")
            )
            hired = self._some_time(_midnight(opened), until).date()
            if rng.random() < 0.25:
                left = self._some_time(_midnight(hired), until).date()
        return {
            "id": number,
            "store_id": store["id"],
            "full_name": self._fakers[store["country_code"]].name(),
            "email": f"employee{number}@softcart.example",
            "role": role,
            "hired_on": hired,
            "left_on": left,
            "salary_amount": Decimal(rng.randint(180_000, 390_000) * (14 if is_manager else 10))
            / 100,
            "created_at": _midnight(hired) + timedelta(hours=8, seconds=rng.randrange(3600)),
            "updated_at": _midnight(left or hired) + timedelta(hours=9),
        }

    def vendor(self, number: int) -> Row:
        """The vendor with that number, from 0."""
        rng = self._rng
        weights = [country.weight for country in COUNTRIES.values()]
        code = rng.choices(list(COUNTRIES), weights)[0]
        created = self._some_time(self._start - timedelta(days=1500), self._start)
        return {
            "id": number + 1,
            "name": self._fakers[code].company(),
            "country_code": code,
            "contact_email": None if rng.random() < 0.1 else f"sales@vendor{number + 1}.example",
            "contact_phone": None if rng.random() < 0.2 else self._fakers[code].phone_number(),
            "rating": None if rng.random() < 0.1 else Decimal(rng.randint(200, 500)) / 100,
            "is_active": int(rng.random() < 0.93),
            "created_at": created,
            "updated_at": self._some_time(created, self._parameters.until),
        }
