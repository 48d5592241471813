select
    id::bigint as visit_id,
    customer_id::bigint as customer_id,
    drink_id,
    amount,
    visited_at at time zone 'UTC' as visited_at,
    _loaded_at
from {{ source('raw_cafe', 'visits') }}
where not _deleted
