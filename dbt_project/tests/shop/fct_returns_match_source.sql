{{ config(meta={'dagster': {'ref': {'name': 'fct_returns'}}}) }}

-- Number, pieces and refunds of the fact equal the source's, to the cent. Refunds may be in several
-- currencies. Their order has the currency, so the source tells one sum only.
with fact as (
    select
        count(*) as return_count,
        sum(returned_quantity) as returned_quantity,
        sum(refund_amount) as refund_amount
    from {{ ref('fct_returns') }}
),

source as (
    select
        count(*) as return_count,
        sum(quantity) as returned_quantity,
        sum(refund_amount) as refund_amount
    from {{ ref('stg_shop__returns') }}
)

select
    to_jsonb(fact) as fact,
    to_jsonb(source) as source
from fact
cross join source
where to_jsonb(fact) is distinct from to_jsonb(source)
