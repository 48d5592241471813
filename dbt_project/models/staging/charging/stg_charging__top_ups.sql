select
    id as top_up_id,
    subscriber_id,
    amount,
    currency,
    channel,
    topped_up_at at time zone 'UTC' as topped_up_at,
    recorded_at at time zone 'UTC' as recorded_at,
    _loaded_at,
    _version
from {{ source('raw_charging', 'top_ups') }}
where not _deleted
