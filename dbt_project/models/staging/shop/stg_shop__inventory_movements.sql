select
    id::bigint as movement_id,
    store_id::bigint as store_id,
    product_id,
    kind as movement_kind,
    quantity,
    order_id::bigint as order_id,
    moved_at at time zone 'UTC' as moved_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_shop', 'inventory_movements') }}
where not _deleted
