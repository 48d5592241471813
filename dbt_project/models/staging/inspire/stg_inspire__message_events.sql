select
    id as message_event_id,
    message_id,
    event,
    happened_at at time zone 'UTC' as happened_at,
    detail,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'message_events') }}
where not _deleted
