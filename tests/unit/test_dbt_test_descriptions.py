"""The check of every dbt test says what the test promises."""

from typing import Any

import pytest

from softcart_assets.components.dbt_tests import description
from softcart_assets.dbt import read_manifest


@pytest.fixture(scope="module")
def manifest() -> Any:
    return read_manifest()


def test_every_test_of_the_project_has_one(manifest: Any) -> None:
    tests = [node for node in manifest["nodes"].values() if node["resource_type"] == "test"]
    assert tests
    for test in tests:
        text = description(manifest, test)
        assert 20 < len(text) < 500, test["name"]
        assert text[0].isupper(), test["name"]
        assert not {"select", "{{", "--", "#}"} & set(text.split()), test["name"]


def _generic(name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "description": "",
        "package_name": "softcart",
        "test_metadata": {"name": name, "kwargs": {"model": "x", **arguments}},
    }


@pytest.mark.parametrize(
    ("test", "text"),
    [
        (
            _generic("relationships", column_name="order_id", to="ref('stg_shop__orders')"),
            "Each value is in the other table. (column_name: order_id; to: stg_shop__orders)",
        ),
        (
            _generic("satisfies", expression="a > 0") | {"description": "Nobody pays less."},
            "Nobody pays less. (expression: a > 0)",
        ),
        ({"description": "Own.", "raw_code": "-- Not this."}, "Own."),
        (
            {"description": "", "raw_code": "{{ config() }}\n\n-- One,\n-- two.\nselect 1 -- no\n"},
            "One, two.",
        ),
        ({"description": "", "raw_code": "select 1"}, ""),
    ],
)
def test_where_it_comes_from(manifest: Any, test: dict[str, Any], text: str) -> None:
    assert description(manifest, test) == text


def test_an_argument_that_names_a_raw_table(manifest: Any) -> None:
    test = _generic("one_to_one_with_raw", raw="source('raw_shop', 'orders')")
    text = description(manifest, test)
    assert text.startswith("A staging view has one row per row of its raw table")
    assert text.endswith("(raw: raw_shop.orders)")
