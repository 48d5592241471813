{{ config(materialized='view') }}

select
    order_id,
    line_number,
    sum(quantity)::bigint as returned_quantity,
    sum(refund_amount)::numeric(24, 2) as refund_amount
from {{ ref('stg_shop__returns') }}
group by order_id, line_number
