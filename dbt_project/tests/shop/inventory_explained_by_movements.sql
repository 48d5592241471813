{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'stg_shop__inventory'}}}) }}

-- The movements of a store and product add up to its quantity on hand. Where they do not,
-- fct_inventory_daily follows the quantity on hand. Its first opening balance has the difference.
with moved as (
    select
        store_id,
        product_id,
        sum(quantity) as moved_quantity
    from {{ ref('stg_shop__inventory_movements') }}
    group by store_id, product_id
)

select
    coalesce(shelf.store_id, moved.store_id) as store_id,
    coalesce(shelf.product_id, moved.product_id) as product_id,
    shelf.quantity_on_hand,
    moved.moved_quantity
from {{ ref('stg_shop__inventory') }} as shelf
full join moved on shelf.store_id = moved.store_id and shelf.product_id = moved.product_id
where coalesce(shelf.quantity_on_hand, 0) <> coalesce(moved.moved_quantity, 0)
