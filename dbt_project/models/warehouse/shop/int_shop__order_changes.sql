{{ config(materialized='view') }}

select
    order_id,
    'raw_shop.orders' as changed_table,
    _version
from {{ ref('stg_shop__orders') }}
union all
select
    order_id,
    'raw_shop.order_lines' as changed_table,
    _version
from {{ ref('stg_shop__order_lines') }}
union all
select
    order_id,
    'raw_shop.payments' as changed_table,
    _version
from {{ ref('stg_shop__payments') }}
union all
select
    order_id,
    changed_table,
    _version
from {{ ref('stg_shop__deleted_rows') }}
where changed_table in ('raw_shop.orders', 'raw_shop.order_lines', 'raw_shop.payments')
union all
select
    orders.order_id,
    'raw_shop.addresses_history' as changed_table,
    addresses._version
from {{ ref('stg_shop__addresses_history') }} as addresses
inner join {{ ref('stg_shop__orders') }} as orders
    on addresses.address_id = orders.shipping_address_id
