-- Deleted rows are in here too: this is how the facts learn of them.
select id::bigint as order_id, 'orders' as changed_table, _loaded_at
from {{ source('raw_shop', 'orders') }}
union all
select order_id::bigint, 'order_lines', _loaded_at
from {{ source('raw_shop', 'order_lines') }}
union all
select order_id::bigint, 'payments', _loaded_at
from {{ source('raw_shop', 'payments') }}
union all
select orders.id::bigint, 'addresses_history', addresses._loaded_at
from {{ source('raw_shop', 'addresses_history') }} as addresses
inner join {{ source('raw_shop', 'orders') }} as orders on orders.shipping_address_id = addresses.id
