"""The first files of a source, as text. Whether dbt builds them is tested with servers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from softcart_assets.lines.model import NONE, Column, Source, Table
from softcart_assets.scaffold import FilesEdited, first_files, write_missing

MODELS = "dbt_project/models/staging/bonus"


def source_with(columns: dict[str, str], name: str = "coupons", **more: str) -> Source:
    """A source `bonus` with one table of these columns. The first one is its key."""
    declared = tuple(Column(column, NONE, more.get("text", "")) for column in columns)
    table = Table(name, "One row per coupon.", (next(iter(columns)),), "cdc", declared)
    return Source("bonus", "mysql", "Coupons.", (table,), owner="team:x", prefix="SOFTCART_BONUS")


def files_of(columns: dict[str, str], folder: Path, **more: str) -> dict[str, str]:
    source = source_with(columns, **more)
    return first_files("marketing", source, {source.tables[0].name: columns}, folder)


def test_names_and_types_are_those_of_the_warehouse(tmp_path: Path) -> None:
    columns = {
        "id": "integer",
        "customer_id": "bigint",
        "orderId": "smallint",
        "order": "text",
        "HTTPStatus": "smallint",
        "order id": "bytea",
        "имя": "text",
        "_internal": "timestamp",
        "2nd": "numeric(12,2)",
    }
    files = files_of(columns, tmp_path)
    assert files[f"{MODELS}/stg_bonus__coupons.sql"] == (
        "select\n"
        "    id::bigint as coupon_id,\n"
        "    customer_id,\n"
        '    "orderId"::bigint as order_id,\n'
        '    "order" as coupon_order,\n'
        '    "HTTPStatus" as http_status,\n'
        '    "order id" as order_id_2,\n'
        '    "имя" as coupon_column,\n'
        "    _internal as internal,\n"
        '    "2nd" as column_2nd,\n'
        "    _loaded_at,\n"
        "    _version\n"
        "from {{ source('raw_bonus', 'coupons') }}\n"
        "where not _deleted\n"
    )
    [model] = yaml.safe_load(files[f"{MODELS}/_models.yml"])["models"]
    assert {each["name"]: each["data_type"] for each in model["columns"]} == {
        "coupon_id": "bigint",
        "customer_id": "bigint",
        "order_id": "bigint",
        "coupon_order": "text",
        "http_status": "smallint",
        "order_id_2": "bytea",
        "coupon_column": "text",
        "internal": "timestamp",
        "column_2nd": "numeric(12,2)",
        "_loaded_at": "timestamptz",
        "_version": "bigint",
    }
    [one_to_one, key] = model["data_tests"]
    assert one_to_one["one_to_one_with_raw"]["arguments"] == {
        "raw": "source('raw_bonus', 'coupons')"
    }
    assert key["primary_key"]["arguments"] == {"columns": ["coupon_id"]}


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("addresses", "address_id"),
        ("categories", "category_id"),
        ("boxes", "box_id"),
        ("order_status", "order_status_id"),
        ("purchases", "purchase_id"),
        ("film", "film_id"),
    ],
)
def test_a_key_is_called_after_what_a_row_is(tmp_path: Path, table: str, key: str) -> None:
    text = files_of({"id": "bigint"}, tmp_path, name=table)[f"{MODELS}/stg_bonus__{table}.sql"]
    assert f"    id as {key},\n" in text


def test_long_texts_and_names_stay_within_the_columns(tmp_path: Path) -> None:
    text = "A {{ text }} of {% many %} words: it goes on. " * 4 + "# and 'quotes' \"too\""
    columns = {f"{'Very' * 14}Long": "text", "id": "integer"}
    files = files_of(columns, tmp_path, text=text)
    for path, content in files.items():
        assert all(len(line) <= 100 for line in content.splitlines()), path
    [model] = yaml.safe_load(files[f"{MODELS}/_models.yml"])["models"]
    # dbt would take the braces for Jinja.
    described = text.replace("{{", "{ {").replace("{%", "{ %")
    assert [each["description"] for each in model["columns"][:2]] == [described] * 2


def test_files_that_somebody_edited_stay_and_nothing_is_written(tmp_path: Path) -> None:
    files = files_of({"id": "integer"}, tmp_path)
    assert write_missing(files, tmp_path) == list(files)
    assert write_missing(files, tmp_path) == []
    (tmp_path / "softcart_assets/lines/marketing/bonus.py").write_text("# mine\n")
    (tmp_path / MODELS / "_models.yml").unlink()
    with pytest.raises(FilesEdited, match=r"lines/marketing/bonus\.py\. To get new ones, commit"):
        write_missing(files, tmp_path)
    assert not (tmp_path / MODELS / "_models.yml").exists()


def test_a_line_that_exists_keeps_its_declaration(tmp_path: Path) -> None:
    files = files_of({"id": "integer"}, tmp_path)
    assert "softcart_assets/lines/marketing/__init__.py" in files
    write_missing(files, tmp_path)
    (tmp_path / "softcart_assets/lines/marketing/__init__.py").write_text("# mine\n")
    assert files_of({"id": "integer"}, tmp_path).keys() == {
        path for path in files if not path.endswith("__init__.py")
    }
