select
    id as complaint_id,
    customer_id,
    subscriber_id,
    interaction_id,
    agent_id,
    category as complaint_category,
    state as complaint_state,
    opened_at at time zone 'UTC' as opened_at,
    closed_at at time zone 'UTC' as closed_at,
    resolution,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_crm', 'complaints') }}
where not _deleted
