"""The shop: the online and the physical stores, their stock and their product catalog."""

from softcart_assets.lines.model import Line
from softcart_assets.lines.shop.dashboards import DASHBOARDS
from softcart_assets.lines.shop.extracts import EXTRACTS
from softcart_assets.lines.shop.jobs import JOBS
from softcart_assets.lines.shop.published import PUBLISHED
from softcart_assets.lines.shop.sources import CATALOG, SHOP

LINE = Line(
    "shop",
    "The online and the physical stores: sales, stock and the product catalog.",
    owner="team:shop",
    sources=(SHOP, CATALOG),
    published=PUBLISHED,
    jobs=JOBS,
    extracts=EXTRACTS,
    dashboards=DASHBOARDS,
)
