-- Deleted rows are in here too: this is how the facts learn of them.
select 'customers_history' as changed_table, _loaded_at, id::bigint as customer_id,
    null::bigint as store_id, null::text as product_id, null::bigint as vendor_id, null::bigint as employee_id
from {{ source('raw_shop', 'customers_history') }}
union all
select 'addresses_history', _loaded_at, customer_id::bigint, null, null, null, null
from {{ source('raw_shop', 'addresses_history') }}
union all
select 'stores_history', _loaded_at, null, id::bigint, null, null, null
from {{ source('raw_shop', 'stores_history') }}
union all
select 'products_history', _loaded_at, null, null, _id, null, null
from {{ source('raw_catalog', 'products_history') }}
union all
select 'vendors', _loaded_at, null, null, null, id::bigint, null
from {{ source('raw_shop', 'vendors') }}
union all
select 'employees', _loaded_at, null, null, null, null, id::bigint
from {{ source('raw_shop', 'employees') }}
