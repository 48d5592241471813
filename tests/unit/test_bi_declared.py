"""Mistakes in the files of dashboards for the BI server are told, with the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcart_assets import lines
from softcart_assets.assembly import LINES
from softcart_assets.bi.declared import FILE, DashboardError, boards, read
from softcart_assets.lines.model import Line

SOUND = """\
title: Sales
description: What is sold.
datasets:
  sales:
    description: Rows.
    sql: SELECT 1 AS amount
    metrics:
      total: {title: Total, sql: sum(amount)}
filters:
  - {title: Amount, of: sales, column: amount}
charts:
  - {title: All, of: sales, draw: number, metrics: [total]}
"""


def test_the_dashboards_of_the_project_are_sound() -> None:
    assert boards(LINES)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("of: sales, draw", "of: sale, draw", "'All' is of 'sale', which is no dataset"),
        ("[total]", "[sum]", "'All': sales has no metric 'sum'"),
        ("of: sales, column", "of: sale, column", "the filter 'Amount' is of 'sale', no dataset"),
        ("draw: number", "draw: pie", "draw"),
        ("description: Rows.", "descripton: Rows.", "descripton"),
        ("title: Sales\n", "", "title"),
    ],
)
def test_a_mistake_is_told(right: str, wrong: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(SOUND)
    assert read("shop", file).title == "Sales"
    assert right in SOUND
    file.write_text(SOUND.replace(right, wrong))
    with pytest.raises(DashboardError) as refused:
        read("shop", file)
    assert str(refused.value).startswith(f"{file}: ")
    assert told in str(refused.value)


def test_two_lines_may_not_name_a_dataset_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them would replace the other in Superset, without a word."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(SOUND)
    monkeypatch.setattr(lines, "__file__", str(tmp_path / "__init__.py"))
    one, two = (Line(name, "", "team:x") for name in ("one", "two"))
    assert [board.name for board in boards([one])] == ["one"]
    with pytest.raises(DashboardError, match="has a dataset 'sales', too"):
        boards([one, two])
