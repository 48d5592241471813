select
    id as dispute_id,
    account_id,
    invoice_id,
    subscriber_id,
    amount,
    currency,
    reason as dispute_reason,
    state as dispute_state,
    opened_at at time zone 'UTC' as opened_at,
    closed_at at time zone 'UTC' as closed_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'disputes') }}
where not _deleted
