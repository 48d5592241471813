"""The shop: the online store with its stores, its stock and its product catalog."""

from softcart_assets.lines.model import Line
from softcart_assets.lines.shop.dashboards import DASHBOARDS
from softcart_assets.lines.shop.extracts import EXTRACTS
from softcart_assets.lines.shop.jobs import JOBS
from softcart_assets.lines.shop.published import PUBLISHED
from softcart_assets.lines.shop.sources import CATALOG, SHOP

LINE = Line(
    "shop",
    "The online store: sales, stock and the product catalog.",
    owner="team:shop",
    sources=(SHOP, CATALOG),
    published=PUBLISHED,
    jobs=JOBS,
    extracts=EXTRACTS,
    dashboards=DASHBOARDS,
)
