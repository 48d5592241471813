"""Positions for property tests."""

from hypothesis import strategies as st

from softcart_assets.ingestion.position import Position

_NAMES = st.one_of(
    st.sampled_from(["binlog", "mysql-bin", "binlo", "binlog.1", "binlog!", "a:b", "é"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=["Cs"])),
).filter(lambda name: not name.startswith("~"))
_EDGES = [9, 10, 999_999, 1_000_000, 10**12 - 1, 10**12, 2**32]

POSITIONS = st.builds(
    Position,
    st.sampled_from([0, 1, 2, 9999, 10_000]),
    _NAMES,
    st.one_of(st.sampled_from(_EDGES), st.integers(0, 2**31 - 1)),
    st.one_of(st.sampled_from(_EDGES), st.integers(0, 2**64 - 1)),
)
"""Names with a common beginning, and numbers around those at which their texts get longer.

There, positions that were ordered as text would come in a wrong order.
"""
