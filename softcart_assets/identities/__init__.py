"""Which customers of the lines of business are the same person.

`compare` finds pairs of records that may be one person. `people` decides which pairs to believe and
gives every person an id that stays. `build` keeps the result in the staging warehouse. No line is
named here: its model int_<line>__customer_versions is all that it needs. See
docs/decisions/25-identities.md.
"""
