{{ config(materialized='view') }}

{%- set keys = {
    'customer_id': 'bigint',
    'store_id': 'bigint',
    'product_id': 'text',
    'vendor_id': 'bigint',
    'employee_id': 'bigint',
} -%}
{%- set changes = [
    ('customers_history', 'stg_shop__customers_history', 'customer_id'),
    ('addresses_history', 'stg_shop__addresses_history', 'customer_id'),
    ('stores_history', 'stg_shop__stores_history', 'store_id'),
    ('products_history', 'stg_catalog__products_history', 'product_id'),
    ('vendors', 'stg_shop__vendors', 'vendor_id'),
    ('employees', 'stg_shop__employees', 'employee_id'),
] -%}

{% for changed_table, staging, natural_key in changes %}
select
    {% for key, type in keys.items() %}
    {{ key if key == natural_key else 'null' }}::{{ type }} as {{ key }},
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
where changed_table in ('vendors', 'employees')
