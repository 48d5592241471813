"""The shop: customers, orders, stock in MySQL (`shop`), products in MongoDB (`catalog`)."""

from seed_data.common.model import LineSeed
from seed_data.shop.changes import change
from seed_data.shop.generator import generate
from seed_data.shop.traffic import ShopTraffic

SEED = LineSeed(generate, ShopTraffic, change)
