"""A judgement as pictures (PNG)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from softcart_assets.lines.model import Classifier, Ranker
from softcart_assets.ml.judge import Judgement
from softcart_assets.ml.rank import RankJudgement
from softcart_assets.pages.kit import theme

_COLORS = theme.THEMES["light"]
_ACCENT = _COLORS["accent"]


def draw(model: str, charts: Iterable[tuple[str, Any]], folder: Path) -> list[Path]:
    """Write the pictures of a model's judgement to a folder, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, chart in charts:
        file = folder / f"{model}-{name}.png"
        file.write_bytes(_png(chart))
        files.append(file)
    return files


def classifier_charts(model: Classifier, judgement: Judgement) -> Iterator[tuple[str, Any]]:
    """Whether probabilities are right, the lift, the AUC by month."""
    bins = [
        {"predicted": each.predicted, "happened": each.happened, "tenth": number}
        for number, each in enumerate(judgement.bins, start=1)
    ]
    most = max(max(each["predicted"], each["happened"]) for each in bins)
    percent = alt.Axis(format=".0%")
    points = alt.Chart(_rows(bins)).encode(
        x=alt.X("predicted:Q", axis=percent, title="predicted"),
        y=alt.Y("happened:Q", axis=percent, title="happened"),
    )
    ends: list[dict[str, float]] = [{"at": 0.0}, {"at": float(most)}]
    diagonal = alt.Chart(_rows(ends)).mark_line(strokeDash=[4, 4], color="#888888")
    yield (
        "calibration",
        alt.layer(
            diagonal.encode(x="at:Q", y="at:Q"), points.mark_point(color=_ACCENT, filled=True)
        ).properties(title=f"{model.name}: calibration error {judgement.calibration_error:.4f}"),
    )
    overall = judgement.events / judgement.rows
    lifts = [{"tenth": 11 - each["tenth"], "lift": each["happened"] / overall} for each in bins]
    yield (
        "lift",
        alt.Chart(_rows(lifts))
        .mark_bar(color=_ACCENT)
        .encode(
            x=alt.X("tenth:O", title="tenth of the predictions, the highest first"),
            y=alt.Y("lift:Q", title="times the overall rate"),
        )
        .properties(title=f"{model.name}: lift of the top decile {judgement.lift}"),
    )
    months = [
        {"month": f"{month:%Y-%m}", "auc": each.value, "low": each.low, "high": each.high}
        for month, each in judgement.by_month.items()
    ]
    base = alt.Chart(_rows(months)).encode(x=alt.X("month:O", title=None))
    scale = alt.Scale(zero=False)
    ceiling = alt.Chart(_rows([{"ceiling": float(model.ceiling.value)}]))
    yield (
        "auc",
        alt.layer(
            base.mark_rule(color=_ACCENT).encode(
                y=alt.Y("low:Q", scale=scale, title="AUC"), y2="high:Q"
            ),
            base.mark_point(color=_ACCENT, filled=True).encode(y="auc:Q"),
            ceiling.mark_rule(strokeDash=[4, 4], color="#888888").encode(y="ceiling:Q"),
        ).properties(title=f"{model.name}: AUC {judgement.auc}, dashed: what can be true at most"),
    )


def ranker_charts(model: Ranker, judgement: RankJudgement) -> Iterator[tuple[str, Any]]:
    """NDCG@10 of several orders, and how much better it is than what is popular."""
    orders = {"this model": judgement.own, "popular": judgement.popular}
    orders |= {f"only {name}": each for name, each in judgement.alone.items() if name != "seen"}
    quality = [
        {"order": name, "ndcg": each.value, "low": each.low, "high": each.high}
        for name, each in orders.items()
    ]
    base = alt.Chart(_rows(quality)).encode(
        y=alt.Y("order:N", title=None, sort="-x"),
    )
    scale = alt.Scale(zero=False)
    yield (
        "ndcg",
        alt.layer(
            base.mark_rule(color=_ACCENT).encode(
                x=alt.X("low:Q", scale=scale, title="NDCG@10"), x2="high:Q"
            ),
            base.mark_point(color=_ACCENT, filled=True).encode(x="ndcg:Q"),
        ).properties(title=f"{model.name}: NDCG@10 {judgement.own}"),
    )
    for what, found in (("group", judgement.by_group), ("month", judgement.by_month)):
        gains = [
            {"of": name, "gain": each.value, "low": each.low, "high": each.high}
            for name, each in found.items()
        ]
        bars = alt.Chart(_rows(gains)).encode(y=alt.Y("of:N", title=None))
        axis = alt.Axis(format="+.0%")
        least = alt.Chart(_rows([{"least": float(model.min_gain.value)}]))
        yield (
            f"gain-by-{what}",
            alt.layer(
                bars.mark_rule(color=_ACCENT).encode(
                    x=alt.X("low:Q", axis=axis, title="better than what is popular there"),
                    x2="high:Q",
                ),
                bars.mark_point(color=_ACCENT, filled=True).encode(x="gain:Q"),
                least.mark_rule(strokeDash=[4, 4], color="#888888").encode(x="least:Q"),
            ).properties(title=f"{model.name}: by {what}, dashed: the least overall"),
        )


def _rows(rows: Sequence[Mapping[str, object]]) -> Any:
    # Altair's own types do not say what its constructors take.
    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def _png(chart: Any) -> bytes:
    specification = chart.properties(width=480, height=260, padding=8).to_dict()
    picture: bytes = vl_convert.vegalite_to_png(
        json.dumps(specification),
        config={
            "background": _COLORS["card"],
            "font": theme.FONT,
            "view": {"stroke": None},
            # Three of them stand side by side in the report.
            "axis": {"labelFontSize": 14, "titleFontSize": 14, "titleFontWeight": "normal"},
            "axisX": {"labelAngle": 0},
            "title": {"fontSize": 16},
            "point": {"size": 70},
        },
        scale=1.5,
    )
    return picture
