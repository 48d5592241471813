"""A snapshot of a MongoDB collection, compared with pymongo reading raw batches without using them.

    python -m benchmarks documents [--scale 1]

Results go to `benchmarks/results/documents.md`.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bson import Decimal128

from benchmarks import rig
from benchmarks.rig import Servers, Usage, python, watch
from softcart_assets.connections import MongoConnection, PostgresConnection
from softcart_assets.ingestion.load import LoadRequest, load
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.lines.model import Source, Table
from softcart_assets.paths import REPOSITORY

DOCUMENTS = 100_000
COLLECTION = "products"
SOURCE = Source(
    "bench_documents",
    "mongodb",
    "",
    (Table(COLLECTION, "", ("_id",), "snapshot", ()),),
    owner="team:bench",
)


def document(number: int) -> dict[str, Any]:
    """A product with nested fields, about 700 bytes."""
    return {
        "_id": number,
        "sku": f"SKU-{number:09}",
        "name": f"Käsereibe „{number % 977}“, rostfrei",
        "price": Decimal128(Decimal(number % 100_000) / 100),
        "is_active": number % 9 > 0,
        "description": f"Fits every kitchen. Item {number} of the collection. " * 4,
        "tags": [f"tag{number % n}" for n in (7, 11, 13)],
        "dimensions": {"width": number % 50, "height": number % 70, "unit": "cm"},
        "variants": [
            {"colour": colour, "stock": number % 17, "ean": f"{number:013}"}
            for colour in ("red", "blue")
        ],
        "updated_at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    }


def fill(mongo: MongoConnection, count: int) -> None:
    """Fill the collection with `count` documents, unless it has as many."""
    with mongo.connect() as client:
        collection = client[mongo.database][COLLECTION]
        if collection.estimated_document_count() == count:
            return
        print(f"filling {mongo.database}.{COLLECTION}: {count:,} documents", flush=True)
        collection.drop()
        for low in range(0, count, 1_000):
            documents = [document(number) for number in range(low, min(low + 1_000, count))]
            collection.insert_many(documents, ordered=False)


def read_raw_batches() -> None:
    """Read everything in raw batches and discard it. This runs in a process of its own."""
    job = json.loads(os.environ["JOB"])
    with MongoConnection(SOURCE.env_prefix, job["uri"], job["database"]).connect() as client:
        started, computed = time.monotonic(), time.process_time()
        size = sum(map(len, client[job["database"]][COLLECTION].find_raw_batches()))
        seconds = {
            "seconds": time.monotonic() - started,
            "cpu_seconds": time.process_time() - computed,
        }
        print(json.dumps({**seconds, "bytes": size}))


def load_collection() -> None:
    """Run our whole load. This runs in a process of its own."""
    job = json.loads(os.environ["JOB"])
    mongo = MongoConnection(SOURCE.env_prefix, job["uri"], job["database"])
    postgres = PostgresConnection("SOFTCART_STAGING", **job["postgres"])
    started, computed = time.monotonic(), time.process_time()
    (result,) = load(LoadRequest(SOURCE, mongo, postgres, job["lake"]))
    seconds = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - computed}
    print(json.dumps({**seconds, "inserted": result.inserted}))


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 3) -> None:
    """Measure and report."""
    count = int(DOCUMENTS * scale)
    mongo = replace(servers.mongo, database=f"documents_{count}")
    fill(mongo, count)
    work = servers.home / "work" / "documents"

    def measure(function: str) -> tuple[Usage, str]:
        target = servers.target("documents")
        names = ("host", "port", "user", "password", "database")
        job = {
            "uri": mongo.uri,
            "database": mongo.database,
            "postgres": {name: getattr(target, name) for name in names},
            "lake": (work / "lake").as_uri(),
        }
        usage = watch(
            python("documents", function),
            job=job,
            env={"PYTHONPATH": str(REPOSITORY)},
            log=work / "log.txt",
        )
        return usage, str(
            compare(SOURCE, target, COLLECTION)
        ) if function == "load_collection" else ""

    # In turns, so that other work on the machine slows down both alike.
    pairs = [(measure("read_raw_batches")[0], *measure("load_collection")) for _ in range(repeat)]
    raw, ours, comparison = sorted(pairs, key=lambda pair: pair[1].seconds)[repeat // 2]
    servers.drop_target("documents")
    lines = [
        "# A collection of MongoDB",
        "",
        f"{count:,} documents of {raw.report['bytes'] / count:,.0f} bytes, from "
        f"{servers.mongo_product}. Ours is the whole load: PostgreSQL with primary key, the lake, "
        "checksums.",
        "",
        "| way | documents/s | seconds | CPU s | memory, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, usage in (("pymongo, raw batches, thrown away", raw), ("ours: whole load", ours)):
        figures = f"{count / usage.seconds:,.0f} | {usage.seconds:.1f} | {usage.cpu_seconds:.1f}"
        lines.append(f"| {name} | {figures} | {usage.peak_bytes / 2**20:,.0f} |")
    lines += [
        "",
        f"{raw.seconds / ours.seconds:.0%} of what raw batches read (goal 80%). {comparison}.",
    ]
    rig.write_result("documents", lines, servers)
