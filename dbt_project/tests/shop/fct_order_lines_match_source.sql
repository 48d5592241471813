{{ config(meta={'dagster': {'ref': {'name': 'fct_order_lines'}}}) }}

-- Counts and amounts of the fact equal the source's, to the cent, per currency. Without an order,
-- the currency is XXX.
with fact as (
    select
        currency,
        count(*) as line_count,
        sum(quantity) as quantity,
        sum(gross_amount) as gross_amount,
        sum(discount_amount) as discount_amount,
        sum(net_amount) as net_amount,
        sum(tax_amount) as tax_amount,
        sum(cost_amount) as cost_amount,
        sum(margin_amount) as margin_amount
    from {{ ref('fct_order_lines') }}
    group by currency
),

expected as (
    select
        coalesce(orders.currency, 'XXX') as currency,
        count(*) as line_count,
        sum(lines.quantity) as quantity,
        sum(lines.quantity * lines.unit_price_amount) as gross_amount,
        sum(lines.discount_amount) as discount_amount,
        sum(lines.quantity * lines.unit_price_amount) - sum(lines.discount_amount) as net_amount,
        sum(lines.tax_amount) as tax_amount,
        sum(lines.quantity * lines.unit_cost_amount) as cost_amount,
        sum(lines.quantity * (lines.unit_price_amount - lines.unit_cost_amount))
        - sum(lines.discount_amount) as margin_amount
    from {{ ref('stg_shop__order_lines') }} as lines
    left join {{ ref('stg_shop__orders') }} as orders on lines.order_id = orders.order_id
    group by coalesce(orders.currency, 'XXX')
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected on fact.currency = expected.currency
where to_jsonb(fact) is distinct from to_jsonb(expected)
