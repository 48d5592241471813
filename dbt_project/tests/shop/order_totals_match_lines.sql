{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'stg_shop__orders'}}}) }}

-- The total of an order equals the sum of its lines and its shipping.
with lines as (
    select
        order_id,
        sum(quantity * unit_price_amount - discount_amount + tax_amount) as lines_amount
    from {{ ref('stg_shop__order_lines') }}
    group by order_id
)

select
    orders.order_id,
    orders.total_amount,
    coalesce(lines.lines_amount, 0) + orders.shipping_amount as computed_amount
from {{ ref('stg_shop__orders') }} as orders
left join lines on orders.order_id = lines.order_id
where orders.total_amount <> coalesce(lines.lines_amount, 0) + orders.shipping_amount
