{{ config(meta={'dagster': {'ref': {'name': 'fct_payments'}}}) }}

-- Counts and amounts of the fact equal the source's, to the cent, per currency.
with fact as (
    select
        coalesce(currency, 'XXX') as currency,
        count(*) as payment_count,
        sum(amount) as amount,
        sum(captured_amount) as captured_amount
    from {{ ref('fct_payments') }}
    group by coalesce(currency, 'XXX')
),

expected as (
    select
        coalesce(currency, 'XXX') as currency,
        count(*) as payment_count,
        sum(amount) as amount,
        coalesce(sum(amount) filter (where payment_status = 'captured'), 0) as captured_amount
    from {{ ref('stg_shop__payments') }}
    group by coalesce(currency, 'XXX')
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected on fact.currency = expected.currency
where to_jsonb(fact) is distinct from to_jsonb(expected)
