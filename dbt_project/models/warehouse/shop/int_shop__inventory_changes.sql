{{ config(materialized='view') }}

select
    store_id,
    product_id,
    'inventory' as changed_table,
    _version
from {{ ref('stg_shop__inventory') }}
union all
select
    store_id,
    product_id,
    'inventory_movements' as changed_table,
    _version
from {{ ref('stg_shop__inventory_movements') }}
union all
select
    store_id,
    product_id,
    changed_table,
    _version
from {{ ref('stg_shop__deleted_rows') }}
where changed_table in ('inventory', 'inventory_movements')
