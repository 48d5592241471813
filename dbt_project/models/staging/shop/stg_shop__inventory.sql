select
    store_id::bigint as store_id,
    product_id,
    quantity_on_hand,
    reorder_point,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_shop', 'inventory') }}
where not _deleted
