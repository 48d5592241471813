select
    id as payment_id,
    account_id,
    invoice_id,
    method as payment_method,
    amount,
    currency,
    paid_at at time zone 'UTC' as paid_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'payments') }}
where not _deleted
