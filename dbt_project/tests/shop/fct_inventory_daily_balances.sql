{{ config(meta={'dagster': {'ref': {'name': 'fct_inventory_daily'}}}) }}

-- Per store and product: every day is there. Each day's movements lead from its opening to its
-- closing balance, and those of all days from the first opening to the last closing balance. That
-- is the source's quantity on hand.
with
bounds as (
    select
        max(inventory_date) as last_date,
        {{ inventory_days() }} as day_count
    from {{ ref('fct_inventory_daily') }}
),

days as (
    select
        fact.store_id,
        fact.product_id,
        fact.inventory_date,
        fact.opening_quantity,
        fact.closing_quantity,
        fact.inventory_date = bounds.last_date - bounds.day_count + 1 as is_first,
        fact.inventory_date = bounds.last_date as is_last,
        fact.received_quantity - fact.sold_quantity + fact.returned_quantity
        + fact.transferred_quantity + fact.adjusted_quantity as net_quantity
    from {{ ref('fct_inventory_daily') }} as fact
    cross join bounds
),

fact as (
    select
        store_id,
        product_id,
        count(*) as row_count,
        min(inventory_date) as first_date,
        count(*) filter (where opening_quantity + net_quantity <> closing_quantity)
            as unbalanced_count,
        sum(opening_quantity) filter (where is_first) + sum(net_quantity) as computed_quantity,
        sum(closing_quantity) filter (where is_last) as closing_quantity
    from days
    group by store_id, product_id
)

select
    coalesce(fact.store_id, shelf.store_id) as store_id,
    coalesce(fact.product_id, shelf.product_id) as product_id,
    fact.row_count,
    fact.first_date,
    fact.unbalanced_count,
    fact.computed_quantity,
    fact.closing_quantity,
    shelf.quantity_on_hand
from fact
full join {{ ref('stg_shop__inventory') }} as shelf
    on fact.store_id = shelf.store_id and fact.product_id = shelf.product_id
cross join bounds
where
    fact.row_count is distinct from bounds.day_count
    or fact.first_date <> bounds.last_date - bounds.day_count + 1
    or fact.unbalanced_count <> 0
    or fact.computed_quantity is distinct from fact.closing_quantity
    or fact.closing_quantity is distinct from shelf.quantity_on_hand
