{{ config(meta={'dagster': {'ref': {'name': 'fct_roaming'}}}) }}

-- Number, quantity and cost of the fact equal those of staging, per operator, kind and currency.
-- The check equals_source compares raw with the files.
-- An array equals another one where both have null, so rows without a currency meet, too.
with fact as (
    select
        operator_code,
        roaming_kind,
        currency,
        count(*) as record_count,
        sum(quantity) as quantity,
        sum(cost_amount) as cost_amount
    from {{ ref('fct_roaming') }}
    group by operator_code, roaming_kind, currency
),

expected as (
    select
        operator_code,
        roaming_kind,
        currency,
        count(*) as record_count,
        sum(quantity) as quantity,
        sum(cost_amount) as cost_amount
    from {{ ref('stg_roaming__records') }}
    group by operator_code, roaming_kind, currency
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected
    on
        array[fact.operator_code, fact.roaming_kind, fact.currency]
        = array[expected.operator_code, expected.roaming_kind, expected.currency]
where to_jsonb(fact) is distinct from to_jsonb(expected)
