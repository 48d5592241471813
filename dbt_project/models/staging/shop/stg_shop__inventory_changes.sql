-- Deleted rows are in here too: this is how the facts learn of them.
select store_id::bigint as store_id, product_id, 'inventory' as changed_table, _loaded_at
from {{ source('raw_shop', 'inventory') }}
union all
select store_id::bigint, product_id, 'inventory_movements', _loaded_at
from {{ source('raw_shop', 'inventory_movements') }}
