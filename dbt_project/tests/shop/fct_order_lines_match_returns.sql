{{ config(meta={'dagster': {'ref': {'name': 'fct_order_lines'}}}) }}

-- Returned pieces and refunds of the fact equal those of the source's returns of existing lines, to
-- the cent.
with fact as (
    select
        sum(returned_quantity) as returned_quantity,
        sum(refund_amount) as refund_amount
    from {{ ref('fct_order_lines') }}
),

source as (
    select
        coalesce(sum(returns.quantity), 0) as returned_quantity,
        coalesce(sum(returns.refund_amount), 0) as refund_amount
    from {{ ref('stg_shop__returns') }} as returns
    inner join {{ ref('stg_shop__order_lines') }} as lines
        on returns.order_id = lines.order_id and returns.line_number = lines.line_number
)

select
    fact.returned_quantity,
    source.returned_quantity as source_returned_quantity,
    fact.refund_amount,
    source.refund_amount as source_refund_amount
from fact
cross join source
where
    coalesce(fact.returned_quantity, 0) <> source.returned_quantity
    or coalesce(fact.refund_amount, 0) <> source.refund_amount
