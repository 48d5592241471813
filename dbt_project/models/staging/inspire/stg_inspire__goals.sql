select
    id as goal_id,
    code as goal_code,
    name as goal_name,
    activity,
    unit,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'goals') }}
where not _deleted
