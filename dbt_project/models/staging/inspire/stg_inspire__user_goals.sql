select
    id as user_goal_id,
    user_id,
    goal_id,
    amount as goal_amount,
    started_on,
    ended_on,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'user_goals') }}
where not _deleted
