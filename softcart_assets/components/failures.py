"""What is told of a step, or of a part of it, that failed."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

NOT_JUDGED = "Not judged, because the work failed. See the check {!r}."
"""The text of checks that could not be evaluated."""


def fail_for(failures: Mapping[str, Exception], what: str) -> None:
    """Fail the step if any of its parts has failed. Dagster keeps the results yielded before.

    `failures`: the error of each part, by its name. `what`: what they have in common.
    """
    if failures:
        told = "\n".join(f"{name}: {error}" for name, error in failures.items())
        raise dg.Failure(f"{what}:\n{told}") from next(iter(failures.values()))


def told(failed: Exception | None) -> dict[str, Any]:
    """The metadata of a check that says whether the work was done: the first lines of the error."""
    return {"error": "\n".join(str(failed).splitlines()[:20])} if failed else {}


def root_cause(error: Any) -> str:
    """The message of the first error in the chain. Dagster wraps an asset's own error."""
    while error and error.cause:
        error = error.cause
    return str(error.message).strip() if error else "failed"
