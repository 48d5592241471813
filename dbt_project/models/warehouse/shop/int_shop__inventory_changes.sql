{{ config(materialized='view') }}

select
    store_id,
    product_id,
    'raw_shop.inventory' as changed_table,
    _version
from {{ ref('stg_shop__inventory') }}
union all
select
    store_id,
    product_id,
    changed_table,
    _version
from {{ ref('stg_shop__deleted_rows') }}
where changed_table = 'raw_shop.inventory'
