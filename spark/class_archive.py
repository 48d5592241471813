"""Class data sharing: Java's form of compiled bytecode, so that sessions start and warm up in about half the time.

The archive holds Spark's classes as Java needs them in memory. It belongs to the installation and is made once, by
`prepare_class_archive` (half a minute, 200 MB beside the Python environment); `build_session` uses it if it is there.
One that does not fit (another Java) is passed over by Java.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark


def class_archive() -> Path:
    """Where the archive of this Spark is, if it was made."""
    return Path(sys.prefix) / f"spark-{pyspark.__version__}.jsa"


def prepare_class_archive() -> None:
    """Make the archive unless it is there. Raises `subprocess.CalledProcessError`, with the output, if that fails."""
    archive = class_archive()
    if archive.exists():
        return
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="spark-classes-") as home:
        # Nothing of this training may reach the user's own lake or metastore.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SOFTCART_")}
        subprocess.run(
            [sys.executable, "-m", "spark.class_archive", f"{home}/archive"],
            cwd=Path(__file__).parents[1],
            env=environment | {"SOFTCART_HOME": home},
            check=True,
            capture_output=True,
            text=True,
        )
        Path(home, "archive").replace(archive)


def _train(archive: str) -> None:
    """Do what sessions usually do, small, and have Java write down at its end which classes that took."""
    from spark.jobs import JOBS, write_aggregate
    from spark.lake import ChangeFile, LakeTable, refresh_table
    from spark.session import build_session, default_lake_uri, softcart_home, stop_session

    lake = LakeTable(default_lake_uri(), "orders", ("id",), "ordered_at")
    lines = LakeTable(default_lake_uri(), "order_lines", ("order_id", "product_id"))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    spark = build_session("class archive", master="local[2]", java_options=f"-XX:ArchiveClassesAtExit={archive}")
    files: dict[str, list[ChangeFile]] = {"orders": [], "order_lines": []}
    for load in range(2):
        own = {"_deleted": False, "_loaded_at": now + timedelta(hours=load), "_position": "", "_load_id": str(load)}
        order = {"customer_id": 1, "store_id": 1, "status": "paid", "ordered_at": now, "device": "mobile"}
        amounts = dict.fromkeys(("unit_price", "unit_cost", "discount_amount"), Decimal("1.00"))
        rows = {
            "orders": [{"id": n, **order, **own} for n in range(9)],
            "order_lines": [
                {"order_id": n % 9, "product_id": str(n), "quantity": 1, "created_at": now, **amounts, **own}
                for n in range(99)
            ],
        }
        for table in (lake, lines):
            path = f"changes/{table.name}/load_date=2026-01-01/{load}-0.parquet"
            file = softcart_home() / "lake" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows[table.name]), file)
            files[table.name].append(ChangeFile(path, str(load), "2026-01-01"))
            refresh_table(spark, table, files[table.name])
    for name in ("agg_orders_by_device_weekday_hour", "agg_baskets_by_product_pair"):
        write_aggregate(spark, JOBS[name], default_lake_uri())
    stop_session(spark)


if __name__ == "__main__":
    _train(sys.argv[1])
