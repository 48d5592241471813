"""Contracts: the standard's documents, what a change means, and which changes are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files as resources
from pathlib import Path

import jsonschema
import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from softcart_assets.assembly import LINES
from softcart_assets.contracts import files
from softcart_assets.contracts.files import BreakingChange
from softcart_assets.contracts.odcs import Column, Product, document
from softcart_assets.contracts.versions import Change, changes, raised
from softcart_assets.paths import REPOSITORY

VISITS = Product(
    "production",
    "fct_visits",
    "cafe",
    "team:cafe",
    "One row per visit.",
    [
        Column("visit_id", "bigint", "Number of the visit."),
        Column("guest", "text", "Who came.", "pii"),
        Column("paid_amount", "numeric(12,2)", "What the guest paid."),
        Column("came_at", "timestamp with time zone", "When the guest came."),
    ],
    27,
    ("visit_id",),
    {"guest": "dim_guest.guest"},
    may_be_empty=False,
)
GUEST, PAID = VISITS.columns[1:3]


def _judged(text: str) -> None:
    schema = json.loads(
        resources("open_data_contract_standard").joinpath("schema.json").read_text("utf-8")
    )
    contract = yaml.safe_load(text)
    jsonschema.validate(contract, schema)
    OpenDataContractStandard.model_validate(contract)


def _written(folder: Path) -> dict[str, object]:
    return yaml.safe_load((folder / "production" / "fct_visits.odcs.yaml").read_text())


def test_a_contract_is_one_of_the_standard(tmp_path: Path) -> None:
    files.write([VISITS], folder=tmp_path)
    _judged((tmp_path / "production" / "fct_visits.odcs.yaml").read_text())
    [table] = _written(tmp_path)["schema"]
    assert [each["logicalType"] for each in table["properties"]] == [
        *("integer", "string", "number", "timestamp")
    ]
    with pytest.raises(jsonschema.ValidationError):
        _judged(yaml.safe_dump({**document(VISITS, "1.0.0"), "kind": "Contract"}))


def test_the_contracts_of_this_project_are_of_the_standard() -> None:
    found = list((REPOSITORY / "contracts").glob("*/*.odcs.yaml"))
    for file in found:
        _judged(file.read_text(encoding="utf-8"))
    names = {(file.parent.name, file.name.removesuffix(".odcs.yaml")) for file in found}
    assert names == {("production", each.name) for each in LINES.published} | {
        ("extracts", each.name) for each in LINES.extracts
    }


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([*VISITS.columns], []),
        ([*VISITS.columns[:3]], [Change("breaking", "column came_at is gone")]),
        (
            [*VISITS.columns, Column("tip_amount", "numeric(12,2)", "")],
            [Change("addition", "column tip_amount is new")],
        ),
        (
            [VISITS.columns[0], GUEST, replace(PAID, type="bigint"), VISITS.columns[3]],
            [Change("breaking", "column paid_amount is bigint instead of numeric(12,2)")],
        ),
        (
            [VISITS.columns[0], replace(GUEST, privacy="sensitive"), *VISITS.columns[2:]],
            [Change("breaking", "column guest is sensitive instead of pii")],
        ),
        (
            [VISITS.columns[0], replace(GUEST, privacy="none"), *VISITS.columns[2:]],
            [Change("addition", "column guest is public instead of pii")],
        ),
        (
            [VISITS.columns[0], replace(GUEST, description="Who."), *VISITS.columns[2:]],
            [Change("text", "descriptions or promises differ")],
        ),
    ],
)
def test_what_a_change_of_columns_means(columns: list[Column], expected: list[Change]) -> None:
    new = document(replace(VISITS, columns=columns), "1.0.0")
    assert changes(document(VISITS, "2.3.4"), new) == expected


def test_another_key_breaks_readers() -> None:
    new = document(replace(VISITS, key=("visit_id", "guest")), "1.0.0")
    assert changes(document(VISITS, "1.0.0"), new) == [
        Change("breaking", "the key is visit_id, guest instead of visit_id")
    ]


def test_versions_are_semantic() -> None:
    assert [raised("1.2.3", weight) for weight in ("breaking", "addition", "text")] == [
        *("2.0.0", "1.3.0", "1.2.4")
    ]


def test_a_breaking_change_is_refused_until_it_is_named(tmp_path: Path) -> None:
    files.write([VISITS], folder=tmp_path)
    narrower = replace(VISITS, columns=VISITS.columns[:3])
    with pytest.raises(BreakingChange, match=r"fct_visits.*: column came_at is gone"):
        files.write([narrower], folder=tmp_path)
    assert _written(tmp_path)["version"] == "1.0.0"
    assert len(files.differences([narrower], tmp_path)) == 1
    files.write([narrower], ["fct_visits"], tmp_path)
    assert _written(tmp_path)["version"] == "2.0.0"
    assert files.differences([narrower], tmp_path) == []
    files.write([VISITS], folder=tmp_path)
    assert _written(tmp_path)["version"] == "2.1.0"


def test_a_table_that_is_not_published_any_more_breaks_readers(tmp_path: Path) -> None:
    files.write([VISITS], folder=tmp_path)
    with pytest.raises(BreakingChange, match="not published any more"):
        files.write([], folder=tmp_path)
    files.write([], ["fct_visits"], tmp_path)
    assert not list(tmp_path.glob("*/*.yaml"))
