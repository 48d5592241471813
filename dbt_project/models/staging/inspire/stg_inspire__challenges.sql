select
    id as challenge_id,
    club_id,
    name as challenge_name,
    unit,
    amount as challenge_amount,
    starts_on,
    ends_on,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'challenges') }}
where not _deleted
