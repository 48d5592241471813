{{ config(meta={'dagster': {'ref': {'name': 'fct_calls'}}}) }}

-- Calls and seconds of the fact equal the source's, each call and direction counted once. An array
-- equals another one where both have null, so rows without a direction meet, too.
with fact as (
    select
        direction,
        count(*) as call_count,
        sum(duration_seconds) as duration_seconds,
        count(*) filter (where is_dropped) as dropped_count
    from {{ ref('fct_calls') }}
    group by direction
),

counted as (
    select distinct on (event_id, direction)
        direction,
        duration_seconds,
        termination
    from {{ ref('stg_signaling__call_records') }}
    order by event_id, direction, call_record_id
),

expected as (
    select
        direction,
        count(*) as call_count,
        sum(duration_seconds) as duration_seconds,
        count(*) filter (where termination = 'dropped') as dropped_count
    from counted
    group by direction
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected on array[fact.direction] = array[expected.direction]
where to_jsonb(fact) is distinct from to_jsonb(expected)
