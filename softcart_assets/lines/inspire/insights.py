"""The statistics of the five insights: from sums that the database adds up, to what is told.

People differ: some train every day, others never. Numbers of workouts vary far more than chance
alone would let them (overdispersion), so an interval that takes workouts as independent is much too
narrow. All intervals here count people as the units that are independent. The queries add up, by
group, what that needs: the sums, squares and products of what each person did.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np

from softcart_assets.lines.inspire.groups import AGE_BANDS, FEWEST, OLDEST, hidden
from softcart_assets.lines.page import Finding, Point, Rows

Z: Final = NormalDist().inv_cdf(0.975)
"""How many standard errors a 95% interval reaches to each side."""

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FEWEST_MONTHS: Final = 24
"""Of fewer months, nobody can tell a season from a trend."""


class Estimate(NamedTuple):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


def ratio(row: Mapping[str, Any]) -> Estimate | None:
    """The ratio of two sums over people, `y` by `x`. None where nothing is known.

    The row has `people`, the sums `y` and `x`, and those of their squares and products, `yy`, `xy`
    and `xx`. The variance is that of a ratio of means (linearised), so it needs no assumption how
    workouts come about. On the scale of logarithms, because a rate is never below zero.
    """
    people, y, x, yy, xy, xx = (float(row[name] or 0) for name in ("people", *_SUMS))
    if people < 2 or y <= 0 or x <= 0:
        return None
    value = y / x
    variance = people / (people - 1) * (yy - 2 * value * xy + value**2 * xx) / x**2
    reach = math.exp(Z * math.sqrt(max(variance, 0.0)) / value)
    return Estimate(value, value / reach, value * reach)


_SUMS = ("y", "x", "yy", "xy", "xx")


def total(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The sums of all groups together."""
    found = dict.fromkeys(("people", *_SUMS), 0.0)
    for row in rows:
        for name in found:
            found[name] += float(row[name] or 0)
    return found


def told(rows: Rows, group: str) -> list[Mapping[str, Any]]:
    """The rows of groups that are large enough."""
    left_out = hidden({row[group]: int(row["people"]) for row in rows})
    return [row for row in rows if row[group] not in left_out]


def odds_ratio(both: int, one: int, other: int, neither: int, tests: int = 1) -> Estimate:
    """By how much the odds of one thing are greater with another thing than without it (Woolf).

    A half is added to each number, so that it is known where one is zero (Haldane). `tests`: of how
    many intervals all shall hold together with 95% (Bonferroni).
    """
    cells = [count + 0.5 for count in (both, one, other, neither)]
    value = math.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    reach = NormalDist().inv_cdf(1 - 0.025 / tests) * math.sqrt(sum(1 / cell for cell in cells))
    return Estimate(math.exp(value), math.exp(value - reach), math.exp(value + reach))


def t_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's distribution (Cornish and Fisher's expansion)."""
    # To 0.1% from 8 degrees of freedom on.
    terms = (
        Z,
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


class Decomposition(NamedTuple):
    """A series of months without its trend.

    `effects`: of each calendar month from 0 for January, against the trend, as a share.
    `apart`: each month of the series against the trend. `yearly`: what the trend gains in a year.
    """

    effects: list[Estimate]
    apart: list[float]
    yearly: float


def decompose(months: Sequence[int], values: Sequence[float]) -> Decomposition:
    """Take a series apart: a trend times a season times what is left. Classical decomposition, as a
    regression of logarithms on a quadratic trend and twelve effects that multiply to one.

    `months`: calendar months from 0 on, one after the other. All values are above zero. A moving
    average would lose half a year at each end, and of two years it would have each month once. The
    regression uses all months and says how sure it is.
    """
    count = len(values)
    time = (np.arange(count) - (count - 1) / 2) / 12
    season = np.zeros((count, 11))
    for row, month in enumerate(months):
        # The effect of December is minus the sum of the others.
        season[row] = -1.0 if month == 11 else np.eye(11)[month]
    design = np.column_stack([np.ones(count), time, time**2 - np.mean(time**2), season])
    logs = np.log(np.asarray(values, dtype=float))
    weights, *_ = np.linalg.lstsq(design, logs, rcond=None)
    freedom = count - design.shape[1]
    left = logs - design @ weights
    covariance = np.linalg.inv(design.T @ design) * (left @ left) / freedom
    of_months = np.vstack([np.eye(11), -np.ones(11)])
    effects = of_months @ weights[3:]
    errors = np.sqrt(np.einsum("ij,jk,ik->i", of_months, covariance[3:, 3:], of_months))
    reach = t_quantile(freedom) * errors
    return Decomposition(
        [
            Estimate(*(math.expm1(each) for each in (effect, effect - far, effect + far)))
            for effect, far in zip(effects, reach, strict=True)
        ],
        [math.expm1(each) for each in logs - design[:, :3] @ weights[:3]],
        math.expm1(float(weights[1])),
    )


def apart(found: Mapping[str, Estimate], mean: float) -> set[str]:
    """The names whose values are not the mean, of which at most 5% are wrong to be expected
    (Benjamini and Hochberg). One of twenty intervals misses the mean by chance alone.
    """
    order = sorted(found, key=lambda name: _chance(found[name], mean))
    passed = [
        place
        for place, name in enumerate(order, start=1)
        if _chance(found[name], mean) <= 0.05 * place / len(order)
    ]
    return set(order[: max(passed, default=0)])


def _chance(found: Estimate, mean: float) -> float:
    """How often chance alone makes such a value, or one that is farther from the mean."""
    if found.low == found.high:
        return float(found.value == mean)
    error = math.log(found.high / found.low) / 2 / Z
    return 2 * NormalDist().cdf(-abs(math.log(found.value / mean)) / error)


def regions(rows: Mapping[str, Rows]) -> Finding | None:
    """Where people train most: workouts per 1,000 registered people and month."""
    large = {row["region"]: row for row in told(rows["regions"], "region")}
    found = {region: each for region, row in large.items() if (each := ratio(row))}
    whole = ratio(total(large.values()))
    if len(found) < 2 or whole is None:
        return None
    ranked = sorted(found, key=lambda region: -found[region].value)
    clear = apart(found, whole.value)
    above = [region for region in ranked if region in clear and found[region].value > whole.value]
    below = [region for region in ranked if region in clear and found[region].value < whole.value]
    # By the end of the interval: the greatest of many values is often one of few people.
    first = max(above, key=lambda region: found[region].low, default="")
    last = min(below, key=lambda region: found[region].high, default="")
    lead = first or last
    figure = "Workouts per 1,000 registered people and month"
    thousand = Estimate(*(1000 * each for each in (found[lead] if lead else whole)))
    shown = ranked if len(ranked) <= _BARS else [*ranked[: _BARS - 4], *ranked[-4:]]
    sentence = f"{thousand.value:,.0f} workouts per 1,000 registered people and month"
    if lead:
        sentence = (
            f"{lead} stands out: {sentence}, {_apart(found[lead].value / whole.value)} the mean."
        )
    else:
        sentence = f"None of {len(found)} regions clearly differs from the mean, {sentence}."
    if first and last:
        sentence += f" {last} is {_apart(found[last].value / whole.value)} it."
    return Finding(
        sentence,
        f"{figure} in {lead}" if lead else figure,
        *thousand,
        f"Of {len(found)} regions, {_listed(above, 'none')} {_is(above)} clearly above the mean, "
        f"{_listed(below, 'none')} {_is(below)} clearly below. "
        + (
            "Look for what those with more do differently, such as clubs, and try it in the others."
            if lead
            else "Treat all alike until one differs."
        ),
        tuple(
            Point(region, 1000 * each.value, "", 1000 * each.low, 1000 * each.high)
            for region, each in ((region, found[region]) for region in shown)
        ),
        "Bars of regions, most first: "
        + ", ".join(f"{region} {1000 * found[region].value:,.0f}" for region in shown),
    )


_BARS: Final = 12
"""So many regions are drawn: those with most, and the last four."""


def seasons(rows: Mapping[str, Rows]) -> Finding | None:
    """When people train more than the trend says, by calendar month and year."""
    series = _last_run([row for row in rows["months"] if row["workouts"] and row["people_days"]])
    if len(series) < FEWEST_MONTHS:
        return None
    days = [row["month"] for row in series]
    found = decompose(
        [day.month - 1 for day in days],
        [float(row["workouts"]) / float(row["people_days"]) for row in series],
    )
    order = sorted(range(12), key=lambda month: -found.effects[month].value)
    top, low = order[0], order[-1]
    # On a scale of logarithms, as one of twelve months is often apart by chance.
    clear = apart({MONTHS[m]: Estimate(*(1 + v for v in found.effects[m])) for m in order}, 1)
    high = sorted(m for m in order[:3] if MONTHS[m] in clear and found.effects[m].value > 0)
    top = min(high, key=order.index, default=top)
    has_low = MONTHS[low] in clear and found.effects[low].value < 0
    effect, ebb = found.effects[top], found.effects[low]
    # One month is no line.
    years = [year for year, count in sorted(Counter(d.year for d in days).items()) if count > 1][
        -3:
    ]
    by_month = {(day.year, day.month): value for day, value in zip(days, found.apart, strict=True)}
    told = [f"{_MONTH_NAMES[top]} is {_apart(1 + effect.value)} the trend"] if high else []
    if has_low:
        told.append(
            f"{_MONTH_NAMES[low]} {'' if told else 'is '}{_apart(1 + ebb.value)} "
            f"{'it' if told else 'the trend'}"
        )
    advice = []
    if high:
        names = _listed([_MONTH_NAMES[m] for m in high])
        advice.append(f"Begin campaigns and challenges just before {names}.")
    if has_low:
        advice.append(f"Give people an easy goal in {_MONTH_NAMES[low]}, when many stop.")
    return Finding(
        f"{' and '.join(told) or 'No month is clearly above or below the trend'}. Without the "
        f"seasons, an active person trained {_more(found.yearly)} than a year before.",
        f"Workouts in {_MONTH_NAMES[top]} against the trend",
        *effect,
        " ".join(advice) or "Campaigns and challenges are as good in one month as in another.",
        tuple(
            Point(MONTHS[month - 1], by_month.get((year, month)), str(year))
            for year in years
            for month in range(1, 13)
        ),
        "Lines of years over the months, against the trend: "
        + ", ".join(f"{MONTHS[m]} {found.effects[m].value:+.0%}" for m in range(12)),
    )


def _last_run(rows: Rows) -> Rows:
    """The last rows whose months are one after the other."""
    numbers = [row["month"].year * 12 + row["month"].month for row in rows]
    gaps = [n for n in range(1, len(rows)) if numbers[n] != numbers[n - 1] + 1]
    return rows[gaps[-1] :] if gaps else rows


_MONTH_NAMES: Final = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)


def segments(rows: Mapping[str, Rows]) -> Finding | None:
    """Which category the people of a goal buy far more often than others do."""
    cells = {
        (row["goal_name"], row["department_name"]): int(row["people"]) for row in rows["cells"]
    }
    everybody = cells.get((None, None), 0)
    # People without a goal count among the others.
    pairs = {
        (goal, department): both
        for (goal, department), both in cells.items()
        if department is not None
        and goal not in (None, "none")
        and not hidden({"in": both, "out": cells[goal, None] - both})
    }
    best: dict[str, tuple[str, Estimate]] = {}
    for (goal, department), both in pairs.items():
        with_goal, buyers = cells[goal, None], cells[None, department]
        found = odds_ratio(
            both,
            with_goal - both,
            buyers - both,
            everybody - with_goal - buyers + both,
            len(pairs),
        )
        # By the lower end, because the greatest of many estimates is often one of few people.
        if goal not in best or found.low > best[goal][1].low:
            best[goal] = department, found
    if not best:
        return None
    ranked = sorted(best.items(), key=lambda each: -each[1][1].low)
    goal, (department, lift) = ranked[0]
    is_sure = lift.low > 1
    return Finding(
        f"People who buy {department} have {lift.value:.1f} times the odds of the goal “{goal}” "
        f"that others have{'' if is_sure else ', which may be chance'}.",
        f"Odds of the goal “{goal}” with purchases of {department}, against those without, the "
        f"clearest of {len(pairs)} pairs of goal and category",
        *lift,
        f"Recommend {department} to people whose goal is “{goal}”, and the goal to those who buy "
        f"{department}."
        if is_sure
        else "Recommend what sells best, whatever the goal, until more people use both.",
        tuple(
            Point(f"{name}: {category}", found.value, "", found.low, found.high)
            for name, (category, found) in ranked
        ),
        "Bars of goals, each with the category of the greatest lift: "
        + ", ".join(f"{name}, {each[0]}, {each[1].value:.1f}" for name, each in ranked),
    )


def ages(rows: Mapping[str, Rows]) -> Finding | None:
    """On how many days of a week the people of an age train."""
    order = [*(name for _, name in AGE_BANDS), OLDEST]
    known = [row for row in rows["ages"] if row["age_band"] in order]
    large = [(row, found) for row in told(known, "age_band") if (found := ratio(row))]
    if len(large) < 2:
        return None
    large.sort(key=lambda each: order.index(each[0]["age_band"]))
    most = max(large, key=lambda each: each[1].value)
    least = min(large, key=lambda each: each[1].value)
    bands = [row["age_band"] for row, _ in large]
    left_out = [name for name in order if name not in bands]
    small = f" Too few to tell: {_listed(left_out)}." if left_out else ""
    return Finding(
        f"People {_aged(most[0]['age_band'])} train most, on {most[1].value:.1f} days a week, and "
        f"those {_aged(least[0]['age_band'])} least, on {least[1].value:.1f}.{small}",
        f"Active days a week of people {_aged(most[0]['age_band'])}",
        *most[1],
        f"Give people {_aged(least[0]['age_band'])} shorter plans and more reminders, and ask "
        f"those {_aged(most[0]['age_band'])} to bring them along.",
        tuple(
            Point(row["age_band"], found.value, "", found.low, found.high) for row, found in large
        ),
        "Bars of age bands, youngest first: "
        + ", ".join(f"{row['age_band']} {found.value:.1f}" for row, found in large),
    )


def peaks(rows: Mapping[str, Rows]) -> Finding | None:
    """At which hour of the local day people begin to train."""
    shares = {
        row["hour"]: found
        for row in rows["hours"]
        if row["people_in_hour"] >= FEWEST and (found := ratio(row))
    }
    whole = sum(int(row["workouts"]) for row in rows["cells"])
    people = {(row["weekday"], row["hour"]): int(row["people"]) for row in rows["cells"]}
    top = max(shares, key=lambda hour: (shares[hour].value, -hour), default=0)
    # The whole is told, and that of the best hour.
    small = hidden(people) | hidden({each: n for each, n in people.items() if each[1] == top})
    cells = {
        (row["weekday"], row["hour"]): int(row["workouts"])
        for row in rows["cells"]
        if (row["weekday"], row["hour"]) not in small
    }
    if not shares or not cells:
        return None
    weekday, at = max(cells, key=lambda each: (cells[each], -each[0], -each[1]))
    bands: dict[int, list[str]] = {}
    order = [*(name for _, name in AGE_BANDS), OLDEST]
    for row in sorted(rows["bands"], key=lambda each: each["hour"]):
        if row["age_band"] in order:
            bands.setdefault(row["hour"], []).append(row["age_band"])
    by_age = "; ".join(
        f"{_listed(sorted(names, key=order.index))} at {hour}:00" for hour, names in bands.items()
    )
    return Finding(
        f"{shares[top].value:.1%} of all workouts begin between {top}:00 and {top + 1}:00, and the "
        f"busiest hour of the week is {WEEKDAYS[weekday - 1]} {at}:00, on the local clock."
        + (f" Best hours by age: {by_age}." if by_age else ""),
        f"Share of workouts that begin at {top}:00",
        *shares[top],
        "Remind people an hour before the best hour of their zone and age. The application does it "
        "for those who want it.",
        tuple(
            Point(
                str(hour),
                None if (day, hour) in small else cells.get((day, hour), 0) / whole,
                WEEKDAYS[day - 1],
            )
            for day in range(1, 8)
            for hour in range(24)
        ),
        f"Shares of workouts by weekday and local hour, most on {WEEKDAYS[weekday - 1]} at {at}:00",
    )


def _aged(band: str) -> str:
    if band == OLDEST:
        return f"of {band}"
    return f"in their {band}" if band[0].isdigit() else band


def _apart(factor: float) -> str:
    return f"{abs(factor - 1):.0%} {'above' if factor >= 1 else 'below'}"


def _more(share: float) -> str:
    return f"{abs(share):.0%} {'more' if share >= 0 else 'less'}"


def _listed(names: Sequence[str], nothing: str = "") -> str:
    if len(names) < 2:
        return names[0] if names else nothing
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"
