"""Marks before what a spreadsheet could run as a formula, for texts that nobody thought of."""

from __future__ import annotations

import csv
import re

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from softcart_assets.extracts.dictionary import BEGINS, INSIDE
from softcart_assets.extracts.write import _without_mark


@given(st.text(alphabet="'=-@;\t\r\n \"ａ＝x1", max_size=12))
@example("''")
@example(";''")
@example('a;"" =1;')
def test_no_cell_begins_like_a_formula_and_the_exact_text_comes_back(text: str) -> None:
    # As `_as_csv` has PostgreSQL do it.
    marked = "'" * bool(re.match(BEGINS, text)) + re.sub(INSIDE, r"\1'", text)
    assert _without_mark(pa.array([marked, None])).to_pylist() == [text, None]
    assert not re.match(r" *[=\-@＝\t\r\n]", marked)
    quoted = '"{}"'.format(marked.replace('"', '""'))
    for separator in ";\t":
        rows = csv.reader(f"1,{quoted},2".splitlines(keepends=True), delimiter=separator)
        assert not [cell for row in rows for cell in row if re.match(r"\s*[=\-@＝]", cell)]
