select
    id as interaction_id,
    customer_id,
    subscriber_id,
    agent_id,
    channel,
    topic,
    outcome,
    started_at at time zone 'UTC' as started_at,
    duration_seconds,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_crm', 'interactions') }}
where not _deleted
