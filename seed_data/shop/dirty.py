"""The dirty rows: the kinds of mistakes in the seed data, and the share of rows with each.

Nothing else is wrong on purpose. Each share is the probability that a row has this mistake:

- customers: the e-mail is missing, malformed, or shared with others. The phone is missing or in an
  odd format. The name has stray white space, is in capitals, or has four-byte characters (not dirt,
  but a trap). The birth date is `0000-00-00`.
- orders: there is no customer (a guest), or no row describes the customer.
- order_lines: no document describes the product. It has no inventory and moves none.
- products (MongoDB): a field is of an unexpected type (`weight_grams` as text,
  `price.amount_minor` as a float), or it is missing (`brand` or `tags`).
"""

EMAIL_NULL = 0.03
EMAIL_MALFORMED = 0.006
EMAIL_DUPLICATE = 0.004
PHONE_NULL = 0.12
PHONE_ODD = 0.05
NAME_STRAY_SPACE = 0.01
NAME_CAPITALS = 0.01
NAME_FOUR_BYTE = 0.005
BIRTH_DATE_ZERO = 0.0002

ORDER_GUEST = 0.03
ORDER_UNKNOWN_CUSTOMER = 0.001

LINE_UNKNOWN_PRODUCT = 0.001

PRODUCT_FIELD_WRONG_TYPE = 0.01
PRODUCT_FIELD_MISSING = 0.01

UNKNOWN_CUSTOMER_BASE = 900_000_000_000
"""Unknown customers' ids start here, far above any that AUTO_INCREMENT will reach."""

UNKNOWN_PRODUCTS = 20
"""Lines with an unknown product name one of `P999000` to `P999019`."""
