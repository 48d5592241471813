"""What other lines' data may depend on."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, numbers
from seed_data.common.parameters import HOUR, Parameters
from seed_data.shop.assortment import DEPARTMENTS
from seed_data.shop.organisation import make_organisation
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import make_products
from seed_data.shop.tables.baskets import Baskets
from seed_data.shop.tables.buyers import Buyers
from seed_data.shop.tables.customers import Customers


def buyers(spark: SparkSession, parameters: Parameters, department: str) -> DataFrame:
    """The customers (`customer_id`) who ordered anything of a department, each once."""
    sizes = ShopParameters(parameters.scale, parameters.seed, parameters.until)
    products, organisation, dice = make_products(sizes), make_organisation(sizes), Dice(sizes.seed)
    leaves = DEPARTMENTS[department].leaves
    chosen = {each["_id"] for each in products.categories if each["name"] in leaves}
    is_of_it = numbers([int(each["category_id"] in chosen) for each in products.documents], "int")
    who = Buyers(sizes, dice, Customers(sizes, dice), organisation)
    frame = spark.range(0, (sizes.end - sizes.start) // HOUR + 1).withColumnRenamed("id", "hour")
    orders = who.buyers(who.moments(frame)).where(F.col("customer_id") <= sizes.customers)
    return (
        Baskets(sizes, dice, products)
        .baskets(orders)
        .where(F.exists("products", lambda product: is_of_it[product] == 1))
        .select("customer_id")
        .distinct()
    )
