select
    channel,
    address_digest,
    reason,
    since at time zone 'UTC' as suppressed_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'suppressions') }}
where not _deleted
