select
    id::bigint as payment_id,
    order_id::bigint as order_id,
    method as payment_method,
    status as payment_status,
    amount,
    currency,
    paid_at at time zone 'UTC' as paid_at,
    card_last4,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_shop', 'payments') }}
where not _deleted
