{{ config(materialized='view') }}

-- A line may arrive before its order. Nothing else is known of its order then.
select
    lines.order_id,
    lines.line_number,
    lines.product_id,
    lines.quantity,
    lines.unit_price_amount,
    (lines.quantity * lines.unit_price_amount)::numeric(24, 2) as gross_amount,
    lines.discount_amount,
    (lines.quantity * lines.unit_price_amount - lines.discount_amount)::numeric(24, 2)
        as net_amount,
    lines.tax_amount,
    (lines.quantity * lines.unit_cost_amount)::numeric(24, 2) as cost_amount,
    orders.order_id is null as is_order_missing,
    orders.customer_id,
    orders.store_id,
    orders.employee_id,
    orders.shipping_address_id,
    orders.device,
    coalesce(orders.order_status, 'unknown') as order_status,
    coalesce(orders.currency, 'XXX') as currency,
    coalesce(orders.ordered_at, lines.created_at) as ordered_at,
    coalesce(orders._loaded_at, lines._loaded_at) as _loaded_at
from {{ ref('stg_shop__order_lines') }} as lines
left join {{ ref('stg_shop__orders') }} as orders on lines.order_id = orders.order_id
