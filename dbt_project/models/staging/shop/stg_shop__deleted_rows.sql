{%- set keys = {
    'order_id': 'bigint',
    'payment_id': 'bigint',
    'store_id': 'bigint',
    'product_id': 'text',
    'vendor_id': 'bigint',
    'employee_id': 'bigint',
} -%}
{%- set tables = {
    'orders': {'order_id': 'id'},
    'order_lines': {'order_id': 'order_id'},
    'payments': {'payment_id': 'id', 'order_id': 'order_id'},
    'inventory': {'store_id': 'store_id', 'product_id': 'product_id'},
    'vendors': {'vendor_id': 'id'},
    'employees': {'employee_id': 'id'},
} -%}

-- The other staging views leave deleted rows out. The facts learn of them here.
{% for table, columns in tables.items() %}
select
    {% for key, type in keys.items() %}
    {{ columns.get(key, 'null') }}::{{ type }} as {{ key }},
    {% endfor %}
    'raw_shop.{{ table }}' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_shop', table) }}
where _deleted
{% if not loop.last %}union all{% endif %}
{% endfor %}
