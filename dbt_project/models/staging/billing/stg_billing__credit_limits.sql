select
    account_id,
    limit_amount,
    currency,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'credit_limits') }}
where not _deleted
