select
    id as sale_id,
    customer_id,
    subscriber_id,
    agent_id,
    plan_id,
    channel,
    amount,
    currency,
    sold_at at time zone 'UTC' as sold_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_crm', 'sales') }}
where not _deleted
