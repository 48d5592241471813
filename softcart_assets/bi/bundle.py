"""Makes of declared dashboards the files that Superset imports.

Every part has a UUID that follows from its name, so that a second import finds it again. A chart
also gets the query that Superset's API answers for it.
"""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from softcart_assets.bi.declared import Board, Chart, Dataset, Metric

_OURS = uuid.UUID("5bd0a1c5-6f57-4b8e-9a3f-2f6f1d0f6f11")
"""The namespace of our UUIDs."""
DATABASE = "SoftCart production"
"""What the connection is called."""
_ROOT = "softcart"
MARK = "SoftCart"
"""By whom Superset says that our parts are certified. By this we know them again."""
_MANAGED = {"is_managed_externally": True, "certified_by": MARK}
_KINDS = {
    "number": "big_number_total",
    "bars": "echarts_timeseries_bar",
    "lines": "echarts_timeseries_line",
    "table": "table",
    "heatmap": "heatmap_v2",
}
_CURRENCY = {"symbol": "AUTO", "symbolPosition": "suffix"}
"""The currency that all rows of a chart have, if it is one."""
_GRAINS = {"month": "P1M", "day": "P1D"}
_WIDE = 12
"""How many columns a page has."""


@dataclass(frozen=True)
class Column:
    """A column of a dataset. `is_time`: whether it is a date or a time."""

    name: str
    type: str
    is_time: bool
    description: str


Columns = Mapping[str, list[Column]]
"""The columns of each dataset, by its name."""


def identity(*names: str) -> str:
    """The UUID of what has this kind and these names."""
    return str(uuid.uuid5(_OURS, "/".join(names)))


def bundle(boards: Iterable[Board], columns: Columns, uri: str) -> tuple[bytes, set[str]]:
    """The archive that Superset imports, and the UUIDs of charts, datasets and dashboards in it.

    `uri`: the connection to production, with its password.
    """
    files: dict[str, dict[str, Any]] = {
        "metadata.yaml": {"version": "1.0.0", "type": "assets", "timestamp": "2000-01-01T00:00:00"},
        f"databases/{_ROOT}.yaml": _database(uri),
    }
    for board in boards:
        for name, dataset in board.datasets.items():
            files[f"datasets/{_ROOT}/{name}.yaml"] = _dataset(name, dataset, columns[name])
        for number, chart in enumerate(board.charts):
            dataset = board.datasets[chart.of]
            file = f"charts/{board.name}_{number}.yaml"
            files[file] = _chart(board, chart, dataset, columns[chart.of])
        files[f"dashboards/{board.name}.yaml"] = _dashboard(board)
    kinds = ("charts/", "datasets/", "dashboards/")
    known = {each["uuid"] for path, each in files.items() if path.startswith(kinds)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(f"{_ROOT}/{path}", yaml.safe_dump(content, sort_keys=False))
    return packed.getvalue(), known


def _database(uri: str) -> dict[str, Any]:
    return {
        "database_name": DATABASE,
        "sqlalchemy_uri": uri,
        "uuid": identity("database"),
        "version": "1.0.0",
        "expose_in_sqllab": True,
        "allow_dml": False,
        "extra": {"allows_virtual_table_explore": True},
    }


def _dataset(name: str, dataset: Dataset, columns: Iterable[Column]) -> dict[str, Any]:
    return {
        "table_name": name,
        "description": dataset.description,
        "sql": dataset.sql,
        "main_dttm_col": dataset.time,
        "currency_code_column": dataset.currency,
        "extra": {"certification": {"certified_by": MARK}},
        "is_managed_externally": True,
        "uuid": identity("dataset", name),
        "database_uuid": identity("database"),
        "version": "1.0.0",
        "columns": [
            {
                "column_name": each.name,
                "verbose_name": _title(each.name, dataset),
                "description": each.description,
                "type": each.type,
                "is_dttm": each.is_time,
                "groupby": True,
                "filterable": True,
            }
            for each in columns
        ],
        "metrics": [_metric(key, metric) for key, metric in dataset.metrics.items()],
    }


def _metric(key: str, metric: Metric) -> dict[str, Any]:
    return {
        "metric_name": key,
        "verbose_name": metric.title,
        "description": metric.description,
        "expression": metric.sql,
        "d3format": metric.format,
    }


def _title(column: str, dataset: Dataset) -> str:
    return dataset.titles.get(column) or column.replace("_", " ").capitalize()


def _chart(
    board: Board, chart: Chart, dataset: Dataset, columns: Iterable[Column]
) -> dict[str, Any]:
    form = {
        "viz_type": _KINDS[chart.draw],
        "adhoc_filters": _conditions(chart),
        "time_range": "No filter",
        "row_limit": chart.rows,
        **({"currency_format": _CURRENCY} if dataset.metrics[chart.metrics[0]].is_money else {}),
        **_look(chart, dataset),
        **chart.options,
    }
    return {
        "slice_name": chart.title,
        "description": chart.note,
        "viz_type": form["viz_type"],
        "params": form,
        "query_context": json.dumps(_query(chart, dataset, columns, form)),
        **_MANAGED,
        "uuid": identity("chart", board.name, chart.title),
        "dataset_uuid": identity("dataset", chart.of),
        "version": "1.0.0",
    }


def _conditions(chart: Chart) -> list[dict[str, Any]]:
    if chart.where is None:
        return []
    return [{"expressionType": "SQL", "clause": "WHERE", "sqlExpression": chart.where}]


def _look(chart: Chart, dataset: Dataset) -> dict[str, Any]:
    """The settings of a kind of chart, in Superset's words."""
    written = dataset.metrics[chart.metrics[0]].format
    match chart.draw:
        case "number":
            return {
                "metric": chart.metrics[0],
                "subtitle": chart.note,
                "header_font_size": 0.4,
                "subtitle_font_size": 0.2,
                "y_axis_format": written,
            }
        case "table":
            return {
                "query_mode": "aggregate",
                "groupby": [*chart.by],
                "metrics": [*chart.metrics],
                "timeseries_limit_metric": chart.metrics[0],
                "order_desc": True,
                "show_cell_bars": True,
                "column_config": {
                    name: {"currencyFormat": _CURRENCY}
                    for name in chart.metrics
                    if dataset.metrics[name].is_money
                },
            }
        case "heatmap":
            return {
                "x_axis": chart.x,
                "groupby": chart.by[0],
                "metric": chart.metrics[0],
                "sort_x_axis": "alpha_asc",
                "sort_y_axis": "alpha_desc",
                "normalize_across": "heatmap",
                "linear_color_scheme": "superset_seq_1",
                "value_bounds": [None, None],
                "y_axis_format": written,
                "show_legend": True,
                "left_margin": "auto",
                "bottom_margin": "auto",
            }
        case _:
            return {
                "x_axis": chart.x,
                "time_grain_sqla": _GRAINS[chart.grain] if chart.grain else None,
                "metrics": [*chart.metrics],
                "groupby": [*chart.by],
                # Large numbers in millions, as there is little room on an axis.
                "y_axis_format": "SMART_NUMBER" if written == ",d" else written,
                "show_legend": len(chart.metrics) > 1 or bool(chart.by),
                "rich_tooltip": True,
                "x_axis_time_format": "%b %Y",
                "truncateYAxis": False,
                **({"stack": "Stack"} if chart.is_stacked else {}),
                **({"orientation": "horizontal"} if chart.is_flat else {}),
                **(
                    {}
                    if chart.grain
                    else {
                        "x_axis_sort": chart.metrics[0] if chart.is_flat else chart.x,
                        "x_axis_sort_asc": True,
                        "xAxisForceCategorical": True,
                        # Every label.
                        "xAxisLabelInterval": "0",
                    }
                ),
            }


def _query(
    chart: Chart, dataset: Dataset, columns: Iterable[Column], form: Mapping[str, Any]
) -> dict[str, Any]:
    """The question of a chart to Superset's API, without what only its looks need."""
    asked: list[Any] = [*chart.by]
    if chart.x and chart.grain:
        axis = {
            "label": chart.x,
            "sqlExpression": chart.x,
            "columnType": "BASE_AXIS",
            "expressionType": "SQL",
            "timeGrain": _GRAINS[chart.grain],
        }
        asked = [axis, *asked]
    elif chart.x:
        asked = [chart.x, *asked]
    return {
        "datasource": {"id": identity("dataset", chart.of), "type": "table"},
        "force": False,
        "queries": [
            {
                "columns": asked,
                "metrics": [*chart.metrics],
                "orderby": [[chart.metrics[0], False]] if chart.by or chart.x else [],
                "row_limit": chart.rows,
                "extras": {"where": f"({chart.where})" if chart.where else ""},
                "filters": [],
            }
        ],
        "form_data": dict(form),
        "result_format": "json",
        "result_type": "full",
    }


def _dashboard(board: Board) -> dict[str, Any]:
    return {
        "dashboard_title": board.title,
        "description": board.description,
        "slug": board.name,
        **_MANAGED,
        "uuid": identity("dashboard", board.name),
        "version": "1.0.0",
        "published": True,
        "position": _position(board),
        "metadata": {
            "native_filter_configuration": _filters(board),
            "cross_filters_enabled": True,
            "color_scheme": "supersetColors",
        },
    }


def _position(board: Board) -> dict[str, Any]:
    """Where the charts are: from the left to the right, and down when a row is full."""
    rows: list[list[Chart]] = [[]]
    for chart in board.charts:
        if sum(each.width for each in rows[-1]) + chart.width > _WIDE:
            rows.append([])
        rows[-1].append(chart)
    found: dict[str, Any] = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "GRID_ID": {
            "type": "GRID",
            "id": "GRID_ID",
            "parents": ["ROOT_ID"],
            "children": [f"ROW-{number}" for number in range(len(rows))],
        },
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": board.title}},
    }
    for number, row in enumerate(rows):
        name = f"ROW-{number}"
        charts = {f"CHART-{number}-{place}": chart for place, chart in enumerate(row)}
        found[name] = {
            "type": "ROW",
            "id": name,
            "parents": ["ROOT_ID", "GRID_ID"],
            "children": [*charts],
            "meta": {"background": "BACKGROUND_TRANSPARENT"},
        }
        for key, chart in charts.items():
            found[key] = {
                "type": "CHART",
                "id": key,
                "parents": ["ROOT_ID", "GRID_ID", name],
                "children": [],
                "meta": {
                    # Superset puts the number of the chart here.
                    "chartId": 0,
                    "uuid": identity("chart", board.name, chart.title),
                    "sliceName": chart.title,
                    "width": chart.width,
                    "height": chart.height,
                },
            }
    return found


def _filters(board: Board) -> list[dict[str, Any]]:
    everywhere = {"rootPath": ["ROOT_ID"], "excluded": []}
    found: list[dict[str, Any]] = [
        {
            "id": f"NATIVE_FILTER-{board.name}-{each.column}",
            "name": each.title,
            "type": "NATIVE_FILTER",
            "filterType": "filter_select",
            "targets": [
                {"datasetUuid": identity("dataset", each.of), "column": {"name": each.column}}
            ],
            "controlValues": {
                "multiSelect": not each.is_single,
                "enableEmptyFilter": each.is_single,
                "defaultToFirstItem": each.is_single,
                "inverseSelection": False,
                "searchAllOptions": False,
            },
            "defaultDataMask": {"extraFormData": {}, "filterState": {}, "ownState": {}},
            "cascadeParentIds": [],
            "scope": everywhere,
        }
        for each in board.filters
    ]
    if any(dataset.time for dataset in board.datasets.values()):
        found.append(
            {
                "id": f"NATIVE_FILTER-{board.name}-period",
                "name": "Period",
                "type": "NATIVE_FILTER",
                "filterType": "filter_time",
                "targets": [{}],
                "controlValues": {"enableEmptyFilter": False},
                "defaultDataMask": {"extraFormData": {}, "filterState": {}, "ownState": {}},
                "cascadeParentIds": [],
                "scope": everywhere,
            }
        )
    return found
