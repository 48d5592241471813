{{ config(meta={'dagster': {'ref': {'name': 'fct_activity'}}}) }}

-- Number, seconds, metres, kilograms and effort of the fact equal the source's, to the last digit,
-- per activity and origin. An array equals another one where both have null, so rows without an
-- origin meet, too.
with fact as (
    select
        kinds.activity,
        facts.origin,
        count(*) as workout_count,
        sum(facts.duration_seconds) as duration_seconds,
        sum(facts.distance_m) as distance_m,
        sum(facts.ascent_m) as ascent_m,
        sum(facts.load_kg) as load_kg,
        sum(facts.effort) as effort
    from {{ ref('fct_activity') }} as facts
    left join {{ ref('dim_activity') }} as kinds on facts.activity_key = kinds.activity_key
    group by kinds.activity, facts.origin
),

expected as (
    select
        coalesce(kinds.activity, 'unknown') as activity,
        logs.origin,
        count(*) as workout_count,
        sum(logs.duration_seconds) as duration_seconds,
        sum(logs.distance_m) as distance_m,
        sum(logs.ascent_m) as ascent_m,
        sum({{ moved_kg('logs.sets') }}) as load_kg,
        sum(logs.effort) as effort
    from {{ ref('stg_inspire_docs__activity_logs') }} as logs
    left join {{ ref('dim_activity') }} as kinds on logs.activity = kinds.activity
    group by coalesce(kinds.activity, 'unknown'), logs.origin
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected
    on array[fact.activity, fact.origin] = array[expected.activity, expected.origin]
where to_jsonb(fact) is distinct from to_jsonb(expected)
