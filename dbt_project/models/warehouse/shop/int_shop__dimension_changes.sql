{{ config(materialized='view') }}

{%- set keys = {
    'customer_id': 'bigint',
    'store_id': 'bigint',
    'product_id': 'text',
    'vendor_id': 'bigint',
    'employee_id': 'bigint',
} -%}
{%- set changes = [
    ('raw_shop.customers_history', 'stg_shop__customers_history', 'customer_id', 'customer_id'),
    ('raw_shop.addresses_history', 'stg_shop__addresses_history', 'customer_id', 'customer_id'),
    ('raw_shop.stores_history', 'stg_shop__stores_history', 'store_id', 'store_id'),
    ('raw_catalog.products_history', 'stg_catalog__products_history', 'product_id', 'document_id'),
    ('raw_shop.vendors', 'stg_shop__vendors', 'vendor_id', 'vendor_id'),
    ('raw_shop.employees', 'stg_shop__employees', 'employee_id', 'employee_id'),
] -%}

-- A fact has the text of a product's key without its type. So it is compared after a change of any
-- product with that text.
{% for changed_table, staging, natural_key, column in changes %}
select
    {% for key, type in keys.items() %}
    {{ column if key == natural_key else 'null' }}::{{ type }} as {{ key }},
    {% endfor %}
    '{{ changed_table }}' as changed_table,
    _version
from {{ ref(staging) }}
union all
{% endfor %}
-- Histories hold deletions too; the two tables without a history do not.
select
    null as customer_id,
    store_id,
    product_id,
    vendor_id,
    employee_id,
    changed_table,
    _version
from {{ ref('stg_shop__deleted_rows') }}
where changed_table in ('raw_shop.vendors', 'raw_shop.employees')
