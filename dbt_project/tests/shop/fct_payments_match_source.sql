{{ config(meta={'dagster': {'ref': {'name': 'fct_payments'}}}) }}

-- Counts and amounts of the fact equal the source's, to the cent, per currency.
with fact as (
    select currency, count(*) as payment_count, sum(amount) as amount, sum(captured_amount) as captured_amount
    from {{ ref('fct_payments') }}
    group by currency
),

source as (
    select
        currency,
        count(*) as payment_count,
        sum(amount) as amount,
        coalesce(sum(amount) filter (where payment_status = 'captured'), 0) as captured_amount
    from {{ ref('stg_shop__payments') }}
    group by currency
)

(select 'fact' as side, * from fact except select 'fact', * from source)
union all
(select 'source', * from source except select 'source', * from fact)
