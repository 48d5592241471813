select
    id as subscription_id,
    subscriber_id,
    plan_id,
    started_at at time zone 'UTC' as started_at,
    ended_at at time zone 'UTC' as ended_at,
    agent_id,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_crm', 'subscriptions') }}
where not _deleted
