"""Which customers of the lines of business are the same person.

`compare` finds pairs of records that may be one person. `people` decides which pairs to believe and
gives every person an id that stays. Nothing here knows a line, a server or Dagster. See
docs/decisions/25-identities.md.
"""

from softcart_assets.identities.compare import SCHEMA, compare
from softcart_assets.identities.people import Customer, Decision, Pair, People, people

__all__ = ["SCHEMA", "Customer", "Decision", "Pair", "People", "compare", "people"]
