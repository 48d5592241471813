select
    id as sms_record_id,
    event_id,
    subscriber_id,
    msisdn,
    direction,
    other_msisdn,
    sent_at at time zone 'UTC' as sent_at,
    parts::integer as part_count,
    recorded_at at time zone 'UTC' as recorded_at,
    _loaded_at,
    _version
from {{ source('raw_signaling', 'sms_records') }}
where not _deleted
