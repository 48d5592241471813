{{ config(meta={'dagster': {'ref': {'name': 'fct_charges'}}}) }}

-- Number, quantity and amount of the fact equal the source's, to the cent, per kind and currency.
-- An array equals another one where both have null, so rows without a kind meet, too.
with fact as (
    select
        charge_kind,
        currency,
        count(*) as charge_count,
        sum(quantity) as quantity,
        sum(amount) as amount
    from {{ ref('fct_charges') }}
    group by charge_kind, currency
),

expected as (
    select
        charge_kind,
        currency,
        count(*) as charge_count,
        sum(quantity) as quantity,
        sum(amount) as amount
    from {{ ref('stg_charging__charges') }}
    group by charge_kind, currency
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected
    on array[fact.charge_kind, fact.currency] = array[expected.charge_kind, expected.currency]
where to_jsonb(fact) is distinct from to_jsonb(expected)
