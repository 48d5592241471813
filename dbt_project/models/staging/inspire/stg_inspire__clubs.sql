select
    id as club_id,
    name as club_name,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'clubs') }}
where not _deleted
