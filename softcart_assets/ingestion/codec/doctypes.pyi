"""Which types the values of documents have, compiled: a first pass, so that a second one can make
columns of them.
"""

TARGET_TYPES: tuple[str, ...]
"""What `Types.counts` counts values as: PostgreSQL types, and `whole double`, a double without a
fraction.
"""

class Types:
    """Counts, per field of the documents' top level, the values of each type. NULLs, and documents
    that are not sound, do not count.
    """

    def add(self, raw: bytes) -> int:
        """Count in the documents that stand end to end in `raw`; how many they are. `ValueError` if
        they do not.
        """

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Per field, in the order of their first appearance, how many values of each of
        `TARGET_TYPES`, zeros left out.
        """
