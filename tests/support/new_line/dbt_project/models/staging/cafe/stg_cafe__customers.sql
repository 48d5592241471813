select
    id::bigint as customer_id,
    full_name,
    _loaded_at
from {{ source('raw_cafe', 'customers') }}
where not _deleted
