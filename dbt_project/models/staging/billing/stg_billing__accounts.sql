select
    id as account_id,
    customer_id,
    currency,
    state as account_state,
    opened_at at time zone 'UTC' as opened_at,
    closed_at at time zone 'UTC' as closed_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'accounts') }}
where not _deleted
