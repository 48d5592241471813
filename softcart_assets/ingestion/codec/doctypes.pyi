"""The types of documents' values, compiled: a first pass, so that a second one can make columns."""

TARGET_TYPES: tuple[str, ...]
"""What `Types.counts` counts values as: PostgreSQL types, and kinds of numbers.

`whole double`: a double that bigint holds. `wide bigint`: perhaps not exact as a double. `wide
double` and `wide numeric`: numeric(38,18) does not hold the value.
"""

class Types:
    """Counts the values of each type, per field of the documents' top level.

    `_id`, NULLs and documents that are not sound do not count, nor does a field that is new after
    4,096 others.
    """

    def add(self, raw: bytes) -> int:
        """Count the documents that stand end to end in `raw`. Returns their number. Raises
        `ValueError` if these are not whole documents.
        """

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of values of each of `TARGET_TYPES` per field, without zeros. Fields come in
        the order of their first appearance.
        """
