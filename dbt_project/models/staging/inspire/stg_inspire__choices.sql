select
    id as choice_id,
    user_id,
    local_date,
    kind as choice_kind,
    item,
    propensity,
    policy,
    reason,
    shown_at at time zone 'UTC' as shown_at,
    done_at at time zone 'UTC' as done_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'choices') }}
where not _deleted
