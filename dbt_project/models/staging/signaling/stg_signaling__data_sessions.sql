select
    id as data_session_id,
    event_id,
    subscriber_id,
    msisdn,
    started_at at time zone 'UTC' as started_at,
    ended_at at time zone 'UTC' as ended_at,
    megabytes,
    cell_id,
    region,
    recorded_at at time zone 'UTC' as recorded_at,
    _loaded_at,
    _version
from {{ source('raw_signaling', 'data_sessions') }}
where not _deleted
