"""The catalog: categories and products as MongoDB documents, and what sales and stock need to know of each product.

Products are few (their number grows with the square root of the scale), so the driver makes them with Python and Faker.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from faker import Faker

from seed_data import dirty
from seed_data.assortment import DEPARTMENTS
from seed_data.parameters import DAY, Parameters, epoch_microseconds

Document = dict[str, Any]

NEW_SHARE = 0.3
"""Products introduced after the first order; the others were there from the start."""

DISCONTINUED_SHARE = 0.06


@dataclass
class Catalog:
    """The documents, and per product (in the order of their ids) what the tables of events refer to.

    Money in cents, times in epoch microseconds, `tax_rates` in 1/10,000. `ranking` lists product numbers from the
    best to the least sold; `companions` are the numbers of products that share a product's baskets (`COMPANIONS` for
    each, one list); `substitutes` were there from start to end and are sold in place of a product that was not.
    """

    categories: list[Document]
    products: list[Document]
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


COMPANIONS = 3


def categories(updated_at: datetime | None = None) -> list[Document]:
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


def make_catalog(parameters: Parameters) -> Catalog:
    """The catalog at `parameters.until`."""
    rng = random.Random(f"{parameters.seed}/catalog")
    faker = Faker(["en_US", "de_DE", "fr_FR", "it_IT"])
    faker.seed_instance(parameters.seed)
    brands = [faker.unique.last_name() for _ in range(min(400, max(12, parameters.products // 12)))]
    opening = datetime.fromtimestamp(parameters.start / 1e6, UTC)

    tree = categories(opening - timedelta(days=90))
    leaf_ids = {document["name"]: document["_id"] for document in tree if document["parent_id"]}
    leaves = [
        (department, leaf_name, leaf)
        for department in DEPARTMENTS.values()
        for leaf_name, leaf in department.leaves.items()
    ]
    catalog = Catalog(tree, [])
    by_leaf: dict[str, list[int]] = {leaf_name: [] for _, leaf_name, _ in leaves}
    leaf_of: list[str] = []
    kept = round(parameters.products * (1 - NEW_SHARE))
    for number in range(parameters.products):
        # The first round gives every leaf a product; later ones fill them unevenly.
        department, leaf_name, leaf = leaves[number] if number < len(leaves) else rng.choice(leaves)
        product_id = f"P{number + 1:06}"
        created = opening - timedelta(seconds=rng.randint(86_400, 700 * 86_400))
        if number >= kept:
            span = (parameters.end - parameters.start) / 1e6
            created = opening + timedelta(
                seconds=span * (number - kept + rng.random()) / (parameters.products - kept)
            )
        created += timedelta(microseconds=rng.randrange(1_000_000))
        discontinued = number >= len(leaves) and rng.random() < DISCONTINUED_SHARE
        changed = created + (parameters.until - created) * rng.random() ** 2
        ended = max(changed, opening + timedelta(days=200)) if discontinued else None
        if ended is not None and ended >= parameters.until:
            discontinued, ended = False, None

        low, high = leaf.price
        price = round(low * (high / low) ** rng.random()) * 100 - rng.choice((1, 1, 5, 10))
        cost = round(price * rng.uniform(0.42, 0.78))
        brand, noun = rng.choice(brands), rng.choice(leaf.nouns.split(","))
        series = f"{rng.choice('ABEHKLMNRSTVX')}{rng.randint(1, 99)}"
        attributes = {name: rng.choice(values) for name, values in leaf.attributes.items()}
        variants = _variants(rng, product_id, leaf.attributes)
        document = {
            "_id": product_id,
            "name": f"{brand} {noun} {series}",
            "description": f"{noun[:1].upper()}{noun[1:]} of the {series} series. {faker['en_US'].sentence(12)}",
            "brand": brand,
            "category_id": leaf_ids[leaf_name],
            "vendor_id": rng.randint(1, parameters.vendors),
            "status": "discontinued" if discontinued else "active",
            "price": {"amount_minor": price, "currency": "EUR"},
            "cost": {"amount_minor": cost, "currency": "EUR"},
            "variants": variants,
            "attributes": attributes,
            "tags": rng.sample(
                ("new", "sale", "gift", "eco", "bestseller", "premium", "handmade"),
                rng.randint(0, 3),
            ),
            "weight_grams": rng.randint(*leaf.weight),
            "created_at": _milliseconds(created),
            "updated_at": _milliseconds(ended or changed),
        }
        _spoil(rng, document)
        catalog.products.append(document)
        catalog.ids.append(product_id)
        catalog.prices.append(price)
        catalog.costs.append(cost)
        catalog.tax_rates.append(department.tax_rate)
        catalog.return_shares.append(department.return_share)
        catalog.variant_counts.append(len(variants))
        catalog.introduced.append(epoch_microseconds(created))
        catalog.withdrawn.append(epoch_microseconds(ended) if ended else parameters.end + DAY)
        by_leaf[leaf_name].append(number)
        leaf_of.append(leaf_name)

    catalog.ranking = rng.sample(range(parameters.products), parameters.products)
    leaf_by_name = {leaf_name: leaf for _, leaf_name, leaf in leaves}
    for number, leaf_name in enumerate(leaf_of):
        partners = by_leaf[leaf_by_name[leaf_name].goes_with or leaf_name]
        catalog.companions += [
            partners[(number * 7 + step) % len(partners)] for step in range(COMPANIONS)
        ]
        # The first product of a leaf is never new nor discontinued.
        catalog.substitutes.append(by_leaf[leaf_name][0])
    return catalog


def _milliseconds(moment: datetime) -> datetime:
    """Cut to what a BSON date holds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _variants(rng: random.Random, product_id: str, attributes: dict[str, tuple]) -> list[Document]:
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
