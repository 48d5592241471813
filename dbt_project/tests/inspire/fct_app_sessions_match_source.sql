{{ config(meta={'dagster': {'ref': {'name': 'fct_app_sessions'}}}) }}

-- Number, pages and workouts of the sessions equal the source's, per device. So does the number of
-- those that are open. An array equals another one where both have null, so sessions without a
-- device meet, too.
with fact as (
    select
        device,
        count(*) as session_count,
        count(*) filter (where ended_by = 'open') as open_count,
        sum(page_views) as page_views,
        sum(workouts_logged) as workouts_logged
    from {{ ref('fct_app_sessions') }}
    group by device
),

expected as (
    select
        device,
        count(*) as session_count,
        count(*) filter (where not is_deleted) as open_count,
        sum(page_views) as page_views,
        sum(workouts_logged) as workouts_logged
    from {{ ref('stg_inspire_sessions__sessions') }}
    group by device
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected on array[fact.device] = array[expected.device]
where to_jsonb(fact) is distinct from to_jsonb(expected)
