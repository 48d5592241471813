"""The types of documents' values, compiled: a first pass, so that a second one can make columns."""

TARGET_TYPES: tuple[str, ...]
"""What `Types.counts` counts values as: PostgreSQL types, and `whole double`, a double without a
fraction.
"""

class Types:
    """Counts the values of each type, per field of the documents' top level. NULLs and documents
    that are not sound do not count.
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
