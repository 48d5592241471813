{{ config(materialized='view') }}

-- People may have several goals at a time, and the one with the smallest id is the main one. It can
-- only change on a day on which a goal begins or ends. From each such day to the next is a period.
with days as (
    select
        user_id,
        started_on as valid_from
    from {{ ref('stg_inspire__user_goals') }}
    union
    select
        user_id,
        ended_on as valid_from
    from {{ ref('stg_inspire__user_goals') }}
    where ended_on is not null
),

periods as (
    select
        user_id,
        valid_from,
        coalesce(
            lead(valid_from) over (partition by user_id order by valid_from), '9999-12-31'
        ) as valid_to
    from days
)

select distinct on (periods.user_id, periods.valid_from)
    periods.user_id,
    goals.goal_id,
    periods.valid_from,
    periods.valid_to
from periods
inner join {{ ref('stg_inspire__user_goals') }} as goals
    on
        periods.user_id = goals.user_id
        and periods.valid_from >= goals.started_on
        and periods.valid_from < coalesce(goals.ended_on, '9999-12-31')
order by periods.user_id, periods.valid_from, goals.user_goal_id
