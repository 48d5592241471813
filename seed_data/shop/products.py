"""The products and their categories as MongoDB documents, and as lists for sales and stock.

Products are few, because their number grows with the square root of the scale. So the driver makes
them with Python and Faker.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from faker import Faker

from seed_data.common.parameters import DAY, epoch_microseconds
from seed_data.shop import dirty
from seed_data.shop.assortment import DEPARTMENTS, Department, Leaf
from seed_data.shop.parameters import ShopParameters

Document = dict[str, Any]

NEW_SHARE = 0.3
"""The share of products introduced after the first order. The others exist from the start."""

DISCONTINUED_SHARE = 0.06

COMPANIONS = 3
"""Companions of each product."""


@dataclass
class Products:
    """The documents, and lists with one element per product, in the order of their ids.

    Money is in cents, times are in epoch microseconds, `tax_rates` in 1/10,000. `ranking`: product
    numbers from the best to the least sold. `companions`: the numbers of products that are often in
    the same baskets, `COMPANIONS` in a row for each product. `substitutes`: products that exist
    from start to end. They are sold instead of a product that is not on sale.
    """

    categories: list[Document]
    documents: list[Document] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    prices: list[int] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)
    tax_rates: list[int] = field(default_factory=list)
    return_shares: list[float] = field(default_factory=list)
    variant_counts: list[int] = field(default_factory=list)
    introduced: list[int] = field(default_factory=list)
    withdrawn: list[int] = field(default_factory=list)
    ranking: list[int] = field(default_factory=list)
    companions: list[int] = field(default_factory=list)
    substitutes: list[int] = field(default_factory=list)


def _categories(updated_at: datetime) -> list[Document]:
    """The category tree: departments first, then their leaves."""
    documents: list[Document] = []
    for name in DEPARTMENTS:
        documents.append(
            {"_id": f"C{len(documents) + 1:03}", "name": name, "parent_id": None, "path": [name]}
        )
    for parent, (name, department) in zip(list(documents), DEPARTMENTS.items(), strict=True):
        for leaf in department.leaves:
            documents.append(
                {
                    "_id": f"C{len(documents) + 1:03}",
                    "name": leaf,
                    "parent_id": parent["_id"],
                    "path": [name, leaf],
                }
            )
    return [document | {"updated_at": updated_at} for document in documents]


def make_products(parameters: ShopParameters) -> Products:
    """The products at `parameters.until`."""
    designer = _Designer(parameters)
    products = Products(_categories(designer.opening - timedelta(days=90)))
    category_ids = {
        document["name"]: document["_id"]
        for document in products.categories
        if document["parent_id"]
    }
    by_leaf: dict[str, list[int]] = {leaf_name: [] for _, leaf_name, _ in designer.leaves}
    leaf_of: list[str] = []
    for number in range(parameters.products):
        department, leaf_name, leaf = designer.leaf(number)
        life = designer.life(number)
        document = designer.document(number, category_ids[leaf_name], leaf, life)
        products.documents.append(document)
        products.ids.append(document["_id"])
        # A spoilt price is a float of the same value.
        products.prices.append(int(document["price"]["amount_minor"]))
        products.costs.append(document["cost"]["amount_minor"])
        products.tax_rates.append(department.tax_rate)
        products.return_shares.append(department.return_share)
        products.variant_counts.append(len(document["variants"]))
        products.introduced.append(epoch_microseconds(life.created))
        products.withdrawn.append(
            epoch_microseconds(life.ended) if life.ended else parameters.end + DAY
        )
        by_leaf[leaf_name].append(number)
        leaf_of.append(leaf_name)
    products.ranking = designer.ranking()
    leaf_by_name = {leaf_name: leaf for _, leaf_name, leaf in designer.leaves}
    for number, leaf_name in enumerate(leaf_of):
        partners = by_leaf[leaf_by_name[leaf_name].goes_with or leaf_name]
        products.companions += [
            partners[(number * 7 + step) % len(partners)] for step in range(COMPANIONS)
        ]
        # The first product of a leaf is never new nor discontinued.
        products.substitutes.append(by_leaf[leaf_name][0])
    return products


@dataclass(frozen=True)
class _Life:
    """When a product was introduced, last changed and, perhaps, discontinued."""

    created: datetime
    changed: datetime
    ended: datetime | None


class _Designer:
    """Makes products one by one. Each draws from the same random numbers, so the order matters."""

    def __init__(self, parameters: ShopParameters) -> None:
        self.opening = datetime.fromtimestamp(parameters.start / 1e6, UTC)
        self.leaves: list[tuple[Department, str, Leaf]] = [
            (department, leaf_name, leaf)
            for department in DEPARTMENTS.values()
            for leaf_name, leaf in department.leaves.items()
        ]
        self._parameters = parameters
        self._rng = random.Random(f"{parameters.seed}/catalog")
        self._faker = Faker(["en_US", "de_DE", "fr_FR", "it_IT"])
        self._faker.seed_instance(parameters.seed)
        count = min(400, max(12, parameters.products // 12))
        self._brands = [self._faker.unique.last_name() for _ in range(count)]
        self._kept = round(parameters.products * (1 - NEW_SHARE))

    def leaf(self, number: int) -> tuple[Department, str, Leaf]:
        """The leaf of a product. Each leaf gets one of the first products. The rest is random."""
        if number < len(self.leaves):
            return self.leaves[number]
        return self._rng.choice(self.leaves)

    def life(self, number: int) -> _Life:
        """When the product is on sale."""
        rng, parameters = self._rng, self._parameters
        created = self.opening - timedelta(seconds=rng.randint(86_400, 700 * 86_400))
        if number >= self._kept:
            span = (parameters.end - parameters.start) / 1e6
            share = (number - self._kept + rng.random()) / (parameters.products - self._kept)
            created = self.opening + timedelta(seconds=span * share)
        created += timedelta(microseconds=rng.randrange(1_000_000))
        discontinued = number >= len(self.leaves) and rng.random() < DISCONTINUED_SHARE
        changed = created + (parameters.until - created) * rng.random() ** 2
        ended = max(changed, self.opening + timedelta(days=200)) if discontinued else None
        return _Life(created, changed, ended if ended and ended < parameters.until else None)

    def document(self, number: int, category: str, leaf: Leaf, life: _Life) -> Document:
        """The product's document."""
        rng, product_id = self._rng, f"P{number + 1:06}"
        low, high = leaf.price
        # Prices are spread evenly on a logarithmic scale. They end in 99, 95 or 90 cents.
        price = round(low * (high / low) ** rng.random()) * 100 - rng.choice((1, 1, 5, 10))
        cost = round(price * rng.uniform(0.42, 0.78))
        brand, noun = rng.choice(self._brands), rng.choice(leaf.nouns.split(","))
        series = f"{rng.choice('ABEHKLMNRSTVX')}{rng.randint(1, 99)}"
        attributes = {name: rng.choice(values) for name, values in leaf.attributes.items()}
        variants = _variants(rng, product_id, leaf.attributes)
        text = self._faker["en_US"].sentence(12)
        document = {
            "_id": product_id,
            "name": f"{brand} {noun} {series}",
            "description": f"{noun[:1].upper()}{noun[1:]} of the {series} series. {text}",
            "brand": brand,
            "category_id": category,
            "vendor_id": rng.randint(1, self._parameters.vendors),
            "status": "discontinued" if life.ended else "active",
            "price": {"amount_minor": price, "currency": "EUR"},
            "cost": {"amount_minor": cost, "currency": "EUR"},
            "variants": variants,
            "attributes": attributes,
            "tags": rng.sample(
                ("new", "sale", "gift", "eco", "bestseller", "premium", "handmade"),
                rng.randint(0, 3),
            ),
            "weight_grams": rng.randint(*leaf.weight),
            "created_at": _milliseconds(life.created),
            "updated_at": _milliseconds(life.ended or life.changed),
        }
        _spoil(rng, document)
        return document

    def ranking(self) -> list[int]:
        """Product numbers from the best to the least sold."""
        return self._rng.sample(range(self._parameters.products), self._parameters.products)


def _milliseconds(moment: datetime) -> datetime:
    """Cut to what a BSON date holds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _variants(
    rng: random.Random, product_id: str, attributes: dict[str, tuple[Any, ...]]
) -> list[Document]:
    """One variant per value of the category's first attribute, three at most."""
    name, values = next(iter(attributes.items()))
    chosen = rng.sample(values, rng.randint(1, min(3, len(values))))
    return [
        {
            "sku": f"{product_id}-{number}",
            "attributes": {name: value},
            "price_delta_minor": 0 if number == 1 else rng.choice((0, 0, 200, 500)),
            "barcode": f"40{rng.randrange(10**11):011}",
        }
        for number, value in enumerate(chosen, start=1)
    ]


def _spoil(rng: random.Random, document: Document) -> None:
    """Give a few documents a field of another type, or take one away (see `dirty`)."""
    if rng.random() < dirty.PRODUCT_FIELD_WRONG_TYPE:
        if rng.random() < 0.5:
            document["weight_grams"] = f"{document['weight_grams']} g"
        else:
            document["price"]["amount_minor"] = float(document["price"]["amount_minor"])
    if rng.random() < dirty.PRODUCT_FIELD_MISSING:
        del document[rng.choice(("brand", "tags"))]
