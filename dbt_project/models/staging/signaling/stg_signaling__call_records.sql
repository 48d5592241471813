select
    id as call_record_id,
    event_id,
    subscriber_id,
    msisdn,
    direction,
    other_msisdn,
    started_at at time zone 'UTC' as started_at,
    duration_seconds,
    termination,
    cell_id,
    region,
    recorded_at at time zone 'UTC' as recorded_at,
    _loaded_at,
    _version
from {{ source('raw_signaling', 'call_records') }}
where not _deleted
