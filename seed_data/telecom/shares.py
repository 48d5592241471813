"""How often things go wrong in the data, and how far two lines spell the same person differently.

Nothing else is wrong on purpose. Each number is a share, the probability of the case.
"""

RECORD_DUPLICATE = 0.005
"""Records of the network that are written twice: the same event, another id."""
RECORD_LATE = 0.02
"""Records that are written hours to weeks after the event, and so are their charges."""
CHARGE_CORRECTED = 0.004
"""Charges above 0 that are reversed and charged again with half the amount."""

ROAMING_LATE = 0.03
"""Records abroad that come with the file of a later week."""
ROAMING_DUPLICATE = 0.01
"""Records abroad that the next file has again."""
ROAMING_BROKEN = 0.003
"""Lines that are cut off, or have no number as the amount."""
ROAMING_FILE_LATE = 0.1
"""Files that come up to four weeks late. The others come a day after their week."""
ROAMING_FILE_REPEATED = 0.03
"""Files that come a second time, under another name."""
ROAMING_FILE_CORRECTED = 0.06
"""Files that a second version replaces ten days later. The first one has wrong amounts, and records
that the second does not have."""

COMPLAINT = 0.006
COMPLAINT_PER_DROPPED_CALL = 0.06
"""Months in which a subscriber complains: without a dropped call, and more for each."""

INVOICE_CANCELLED = 0.003
INVOICE_DISPUTED = 0.03
DISPUTE_ACCEPTED = 0.6
INVOICE_UNPAID = 0.02
"""Invoices that nobody ever pays."""

KNOWN_PERSON = 0.35
"""Private customers who are people that other lines know, see `seed_data.common.people`."""
EMAIL_MISSING = 0.06
EMAIL_OTHER = 0.18
"""The customer gave us another address than other lines."""
EMAIL_CAPITALS = 0.08
PHONE_MISSING = 0.08
PHONE_OTHER = 0.12
NAME_CAPITALS = 0.05
NAME_SWAPPED = 0.06
"""Last name first, with a comma."""
NAME_INITIAL = 0.05
NAME_LATIN = 0.05
"""In Latin letters without accents."""
BIRTH_DATE_MISSING = 0.1
