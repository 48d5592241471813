"""The product catalog, in MongoDB."""

from softcart_assets.sources.model import Source, Table, classify

CATALOG = Source(
    name="catalog",
    kind="mongodb",
    env_prefix="SOFTCART_CATALOG",
    owner="team:shop",
    tables=(
        Table(
            "products",
            "One document per product, with its variants and the attributes of its category.",
            key=("_id",),
            strategy="incremental",
            cursor="updated_at",
            history=True,
            privacy=classify(
                none="_id name description brand category_id vendor_id status price cost variants attributes tags "
                "weight_grams created_at updated_at",
            ),
        ),
        Table(
            "categories",
            "One document per category; `parent_id` makes the tree.",
            key=("_id",),
            strategy="snapshot",
            cursor="updated_at",
            privacy=classify(none="_id name parent_id path updated_at"),
        ),
    ),
)
