"""The table of security items names tests that are there. Whether it has all items of the standard,
people have to see.
"""

from __future__ import annotations

import re

from softcart_assets.paths import REPOSITORY


def test_every_item_has_a_test_that_is_there() -> None:
    table = (REPOSITORY / "docs" / "inspire-security.md").read_text()
    there = "".join(
        (REPOSITORY / "tests" / "integration" / f"test_inspire_{name}.py").read_text()
        for name in ("app", "security")
    )
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 20
    assert {each for each in named if f"def {each}(" not in there} == set()
    for line in table.splitlines():
        if re.match(r"\| [67]\.\d", line):
            assert re.search(r"`test_|falls short|not apply", line), line
