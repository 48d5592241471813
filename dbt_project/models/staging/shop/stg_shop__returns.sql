select
    id::bigint as return_id,
    order_id::bigint as order_id,
    line_number::integer as line_number,
    quantity,
    reason as return_reason,
    refund_amount,
    returned_at at time zone 'UTC' as returned_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
from {{ source('raw_shop', 'returns') }}
where not _deleted
