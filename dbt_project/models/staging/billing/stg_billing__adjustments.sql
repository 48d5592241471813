select
    id as adjustment_id,
    account_id,
    subscriber_id,
    invoice_id,
    reason as adjustment_reason,
    amount,
    currency,
    agent_id,
    made_at at time zone 'UTC' as made_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'adjustments') }}
where not _deleted
