-- The other staging views leave deleted rows out. The facts learn of them here.
select
    'orders' as changed_table,
    _loaded_at,
    id::bigint as order_id,
    null::bigint as store_id,
    null::text as product_id,
    null::bigint as vendor_id,
    null::bigint as employee_id
from {{ source('raw_shop', 'orders') }}
where _deleted
union all
select 'order_lines', _loaded_at, order_id::bigint, null, null, null, null
from {{ source('raw_shop', 'order_lines') }}
where _deleted
union all
select 'payments', _loaded_at, order_id::bigint, null, null, null, null
from {{ source('raw_shop', 'payments') }}
where _deleted
union all
select 'inventory', _loaded_at, null, store_id::bigint, product_id, null, null
from {{ source('raw_shop', 'inventory') }}
where _deleted
union all
select 'inventory_movements', _loaded_at, null, store_id::bigint, product_id, null, null
from {{ source('raw_shop', 'inventory_movements') }}
where _deleted
union all
select 'vendors', _loaded_at, null, null, null, id::bigint, null
from {{ source('raw_shop', 'vendors') }}
where _deleted
union all
select 'employees', _loaded_at, null, null, null, null, id::bigint
from {{ source('raw_shop', 'employees') }}
where _deleted
