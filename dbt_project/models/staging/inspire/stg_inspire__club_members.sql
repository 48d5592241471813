select
    club_id,
    user_id,
    joined_at at time zone 'UTC' as joined_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'club_members') }}
where not _deleted
