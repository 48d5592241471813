"""The end of a step whose parts do not stop each other."""

from collections.abc import Mapping

import dagster as dg


def fail_for(failures: Mapping[str, Exception], what: str) -> None:
    """Fail the step if any of its parts has failed. Dagster keeps the results yielded before.

    `failures`: the error of each part, by its name. `what`: what they have in common.
    """
    if failures:
        told = "\n".join(f"{name}: {error}" for name, error in failures.items())
        raise dg.Failure(f"{what}:\n{told}") from next(iter(failures.values()))
