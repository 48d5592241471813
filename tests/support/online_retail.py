"""Online Retail, mapped onto the sources of the shop.

Online Retail has the 541,909 invoice lines that a British wholesaler of gifts wrote from December
2010 to December 2011: Daqing Chen, UCI Machine Learning Repository, 2015,
doi:10.24432/C5BW33, licence CC BY 4.0. A line has InvoiceNo, StockCode, Description, Quantity,
InvoiceDate, UnitPrice, CustomerID and Country.

`Mapped` says what becomes of each line. A line is in exactly one destination, or set aside with a
reason. `Mapped.destinations` and `Mapped.set_aside` count them.

- A sale is a row of `order_lines`, also at a price of 0 and if it is there twice: both may be
  meant. Its invoice is a row of `orders`, with the time of the invoice's first line. Prices have at
  most two decimals in the shop. A fraction of a penny is rounded, and counted in `rounded`.
- Postage and carriage are added to `orders.shipping_amount`.
- A cancellation (invoice C…) names no order. It is a row of `returns` if the customer bought as
  many pieces of the product on one line before, and has not returned them. The latest such line
  counts. Its reason is not known. The shop cannot say so, so it is `changed_mind`.
- An invoice without a customer and without a price corrects the stock. Its lines are
  `inventory_movements`. The stock on hand is not known, so `inventory` is empty. So are
  `payments`, `vendors` and `employees`.
- Fees, commissions, samples, discounts and bad debt are no sale of goods. They are set aside.

Codes differ in case without a meaning, so they are in capitals. A product has its most frequent
description. The purchase price is unknown and 0 in the shop, so margin equals revenue. Customers
have no name, and guests (no CustomerID) no address: the note of their order has the country.
Times are London's, and UTC in the shop. All amounts are in pounds.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from seed_data.common.model import documents
from seed_data.common.packages import database_of
from softcart_assets.lines.shop import LINE

LONDON = ZoneInfo("Europe/London")
HEADER = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)

SHIPPING = {"POST", "DOT", "C2"}
"""Postage, postage of the web shop, carriage."""

NO_GOODS = {
    "AMAZONFEE": "a fee of a marketplace",
    "B": "an adjustment of bad debt",
    "BANK CHARGES": "a fee of a bank",
    "CRUK": "a commission for a charity",
    "D": "a discount that names no order",
    "S": "samples",
}
"""Stock codes that are no goods → the reason to set them aside."""

MANUAL = "M"
"""The stock code of what was typed in. Sold, it is goods. Cancelled, it may be anything."""

COUNTRIES = {
    "Australia": "AU",
    "Austria": "AT",
    "Bahrain": "BH",
    "Belgium": "BE",
    "Brazil": "BR",
    "Canada": "CA",
    "Cyprus": "CY",
    "Czech Republic": "CZ",
    "Denmark": "DK",
    "EIRE": "IE",
    "Finland": "FI",
    "France": "FR",
    "Germany": "DE",
    "Greece": "GR",
    "Hong Kong": "HK",
    "Iceland": "IS",
    "Israel": "IL",
    "Italy": "IT",
    "Japan": "JP",
    "Lebanon": "LB",
    "Lithuania": "LT",
    "Malta": "MT",
    "Netherlands": "NL",
    "Norway": "NO",
    "Poland": "PL",
    "Portugal": "PT",
    "RSA": "ZA",
    "Saudi Arabia": "SA",
    "Singapore": "SG",
    "Spain": "ES",
    "Sweden": "SE",
    "Switzerland": "CH",
    "USA": "US",
    "United Arab Emirates": "AE",
    "United Kingdom": "GB",
}
"""The others have no code of their own. They are regions of `XX`, such as the Channel Islands."""
NUMBERS = {country: number for number, country in enumerate(COUNTRIES)}

PENNY = Decimal("0.01")
LINE_NUMBERS = 10_000
"""A key of a line is its invoice's number times this, plus its place in the invoice."""


@dataclass(frozen=True)
class Row:
    """One line of the data. `place`: its place in its invoice, from 1."""

    invoice: str
    place: int
    code: str
    description: str
    quantity: int
    at: datetime
    price: Decimal
    customer: int | None
    country: str

    @property
    def is_cancellation(self) -> bool:
        return self.invoice.startswith("C")

    @property
    def number(self) -> int:
        """The number of the invoice, without the letter in front of it."""
        return int(self.invoice.lstrip("AC"))

    @property
    def key(self) -> int:
        """A key of the line."""
        return self.number * LINE_NUMBERS + self.place


def read(path: Path) -> Iterator[Row]:
    """The rows of a CSV file, or of all CSV files of a folder by name."""
    places: Counter[str] = Counter()
    for file in sorted(path.glob("*.csv")) if path.is_dir() else [path]:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for line in csv.DictReader(lines):
                invoice = line["InvoiceNo"]
                places[invoice] += 1
                customer = line["CustomerID"]
                yield Row(
                    invoice,
                    places[invoice],
                    line["StockCode"].strip().upper(),
                    line["Description"].strip(),
                    int(line["Quantity"]),
                    _utc(line["InvoiceDate"]),
                    Decimal(line["UnitPrice"]),
                    int(Decimal(customer)) if customer else None,
                    line["Country"],
                )


def _utc(text: str) -> datetime:
    """The copies of the data write a time in two forms."""
    form = "%m/%d/%Y %H:%M" if "/" in text else "%Y-%m-%d %H:%M:%S"
    return datetime.strptime(text, form).replace(tzinfo=LONDON).astimezone(UTC)


@dataclass
class _Sold:
    """A line that can be returned. `left`: its pieces that were not returned yet."""

    order_id: int
    line_number: int
    at: datetime
    left: int


@dataclass
class Mapped:
    """The rows for the shop's sources, by `<source>.<table>`, and what became of the input.

    `destinations`: the number of input rows by what they became. `set_aside`: the others by reason.
    `rounded`: the amount of sales that prices of two decimals cannot express.
    """

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    destinations: Counter[str] = field(default_factory=Counter)
    set_aside: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    rounded: Decimal = Decimal(0)

    def _add(self, table: str, **row: Any) -> None:
        self.tables[table].append(row)


def map_rows(rows: Iterable[Row]) -> Mapped:
    """Map all rows, as the module describes it."""
    mapped, sold, goods = Mapped(), defaultdict(list), []
    rows = list(rows)
    for invoice, lines in groupby(sorted(rows, key=_of_invoice), lambda row: row.invoice):
        lines = list(lines)
        if invoice.isdigit():
            goods += _invoice(mapped, lines, sold)
        elif not lines[0].is_cancellation:
            _set_aside(mapped, lines)
    for row in sorted(rows, key=lambda row: (row.at, row.key)):
        if row.is_cancellation:
            _cancellation(mapped, row, sold)
    _customers(mapped, [row for row in rows if row.customer])
    _products(mapped, goods)
    mapped._add(
        "shop.stores",
        id=1,
        code="WEB",
        name="Web shop",
        channel="online",
        country_code="GB",
        city="London",
        opened_on=min(row.at for row in rows).date(),
    )
    return mapped


def _of_invoice(row: Row) -> tuple[str, int]:
    return row.invoice, row.place


def _set_aside(mapped: Mapped, rows: Iterable[Row]) -> list[Row]:
    """Set aside what is no goods. Returns the others."""
    kept = []
    for row in rows:
        if reason := NO_GOODS.get(row.code):
            mapped.set_aside[reason].append(row)
        else:
            kept.append(row)
    return kept


def _invoice(
    mapped: Mapped, rows: list[Row], sold: dict[tuple[int | None, str], list[_Sold]]
) -> list[Row]:
    """Map the lines of one invoice that is no cancellation. Returns those of goods."""
    rows = _set_aside(mapped, rows)
    goods = [row for row in rows if row.code not in SHIPPING]
    shipping = [row for row in rows if row.code in SHIPPING]
    if all(row.price == 0 and row.customer is None for row in rows):
        mapped.set_aside["postage of nothing"] += shipping
        _stock_correction(mapped, goods)
        return goods
    _order(mapped, goods, shipping)
    for row in goods:
        line = _Sold(row.number, row.place, row.at, row.quantity)
        sold[row.customer, row.code].append(line)
    return goods


def _stock_correction(mapped: Mapped, rows: list[Row]) -> None:
    for row in rows:
        mapped.destinations["inventory_movements"] += 1
        mapped._add(
            "shop.inventory_movements",
            id=row.key,
            store_id=1,
            product_id=row.code,
            kind="adjustment",
            quantity=row.quantity,
            moved_at=row.at,
        )


def _order(mapped: Mapped, goods: list[Row], shipping: list[Row]) -> None:
    first = min([*goods, *shipping], key=lambda row: (row.at, row.place))
    amount = sum((row.quantity * row.price for row in shipping), Decimal(0))
    total = amount
    for row in goods:
        price = row.price.quantize(PENNY)
        total += row.quantity * price
        mapped.rounded += row.quantity * (row.price - price)
        mapped._add(
            "shop.order_lines",
            order_id=row.number,
            line_number=row.place,
            product_id=row.code,
            quantity=row.quantity,
            unit_price=price,
            unit_cost=Decimal(0),
            discount_amount=Decimal(0),
            tax_rate=Decimal(0),
            tax_amount=Decimal(0),
            created_at=first.at,
        )
    mapped.destinations["order_lines"] += len(goods)
    mapped.destinations["orders.shipping_amount"] += len(shipping)
    mapped._add(
        "shop.orders",
        id=first.number,
        customer_id=first.customer,
        store_id=1,
        shipping_address_id=_address(first) if first.customer else None,
        status="delivered",
        currency="GBP",
        ordered_at=first.at,
        shipping_amount=amount,
        total_amount=total,
        note=None if first.customer else first.country,
    )


def _cancellation(
    mapped: Mapped, row: Row, sold: Mapping[tuple[int | None, str], list[_Sold]]
) -> None:
    if row.code in SHIPPING:
        mapped.set_aside["a refund of postage"].append(row)
    elif row.code == MANUAL:
        mapped.set_aside["a correction without a product"].append(row)
    elif _set_aside(mapped, [row]):
        if row.customer is None:
            mapped.set_aside["a cancellation by a guest names no order"].append(row)
            return
        for line in reversed(sold.get((row.customer, row.code), ())):
            if line.at <= row.at and line.left >= -row.quantity:
                break
        else:
            mapped.set_aside["a cancellation of more than one line has"].append(row)
            return
        line.left += row.quantity
        mapped.destinations["returns"] += 1
        mapped._add(
            "shop.returns",
            id=row.key,
            order_id=line.order_id,
            line_number=line.line_number,
            quantity=-row.quantity,
            reason="changed_mind",
            refund_amount=(-row.quantity * row.price).quantize(PENNY),
            returned_at=row.at,
        )


def _address(row: Row) -> int:
    """The key of the customer's address in a country. A few customers have two countries."""
    number = NUMBERS.get(row.country, len(NUMBERS))
    return (row.customer or 0) * (len(NUMBERS) + 1) + number


def _customers(mapped: Mapped, rows: list[Row]) -> None:
    seen: set[int] = set()
    addresses: set[int] = set()
    for row in sorted(rows, key=lambda row: (row.at, row.key)):
        if row.customer not in seen:
            mapped._add(
                "shop.customers",
                id=row.customer,
                full_name=f"Customer {row.customer}",
                created_at=row.at,
            )
        if (address := _address(row)) not in addresses:
            code = COUNTRIES.get(row.country)
            mapped._add(
                "shop.addresses",
                id=address,
                customer_id=row.customer,
                kind="shipping",
                line1="",
                city="Unknown",
                region=None if code else row.country,
                country_code=code or "XX",
                is_primary=int(row.customer not in seen),
                created_at=row.at,
            )
        seen.add(row.customer or 0)
        addresses.add(address)


def _products(mapped: Mapped, goods: Iterable[Row]) -> None:
    names: dict[str, Counter[str]] = defaultdict(Counter)
    latest: dict[str, Row] = {}
    first: dict[str, datetime] = {}
    for row in sorted(goods, key=lambda row: (row.at, row.key)):
        # Of corrections of the stock, the description is a remark, like "damaged".
        names[row.code][row.description] += 1 if row.price and row.description else 0
        latest[row.code] = row
        first.setdefault(row.code, row.at)
    for code, found in sorted(names.items()):
        name, count = min(found.items(), key=lambda each: (-each[1], each[0]))
        mapped._add(
            "catalog.products",
            _id=code,
            **({"name": name} if count else {}),
            category_id=_category(code),
            status="active",
            price={"amount_minor": int(latest[code].price * 100), "currency": "GBP"},
            created_at=first[code],
            updated_at=latest[code].at,
        )
    for category in sorted({_category(code) for code in names}):
        mapped._add("catalog.categories", _id=category, name=category, parent_id=None)


def _category(code: str) -> str:
    if code == MANUAL:
        return "Typed in"
    return "Gift vouchers" if code.startswith("GIFT_") else "Goods"


_TYPES = {int: pa.int64(), str: pa.string(), datetime: pa.timestamp("us", "UTC"), date: pa.date32()}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows with equal keys. A column's type is that of its first value."""

    def column(name: str) -> pa.Array:
        values = [row[name] for row in rows]
        kind = next((type(value) for value in values if value is not None), str)
        return pa.array(values, pa.decimal128(18, 2) if kind is Decimal else _TYPES[kind])

    return pa.table({name: column(name) for name in rows[0]})


def load(mapped: Mapped, folder: Path) -> None:
    """Write the rows into the sources of the shop, whose databases must be empty or seeded."""
    for source in LINE.sources:
        database = database_of(LINE, source)
        database.marks()  # refuses databases with other data
        database.recreate(source.tables)
        for table in source.tables:
            if rows := mapped.tables.get(f"{source.name}.{table.name}"):
                files = folder / source.name / table.name
                files.mkdir(parents=True)
                is_mongodb = source.kind == "mongodb"
                pq.write_table(documents(rows) if is_mongodb else _table(rows), files / "0.parquet")
                database.load(table, files, lambda _: None)
        database.complete(source.tables, "Online Retail")
