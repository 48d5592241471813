{{ config(meta={'dagster': {'ref': {'name': 'fct_calls'}}}) }}

-- Calls and seconds of the fact equal the source's, each call and direction counted once. Every
-- record belongs to a call.
with fact as (
    select
        direction,
        count(*) as call_count,
        sum(duration_seconds) as duration_seconds,
        count(*) filter (where is_dropped) as dropped_count,
        sum(record_count) as record_count
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

records as (
    select
        direction,
        count(*) as record_count
    from {{ ref('stg_signaling__call_records') }}
    group by direction
),

expected as (
    select
        counted.direction,
        count(*) as call_count,
        sum(counted.duration_seconds) as duration_seconds,
        count(*) filter (where counted.termination = 'dropped') as dropped_count,
        min(records.record_count) as record_count
    from counted
    -- Without a direction, too: otherwise nobody would see that the fact lacks such a record.
    inner join records on counted.direction is not distinct from records.direction
    group by counted.direction
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected on fact.direction = expected.direction
where to_jsonb(fact) is distinct from to_jsonb(expected)
