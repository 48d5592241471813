{{ config(materialized='view') }}

{%- set keys = ['customer_id', 'subscriber_id', 'plan_id'] -%}
{%- set changes = [
    ('raw_crm.customers_history', 'stg_crm__customers_history', 'customer_id'),
    ('raw_crm.subscribers_history', 'stg_crm__subscribers_history', 'subscriber_id'),
    ('raw_crm.plans_history', 'stg_crm__plans_history', 'plan_id'),
    ('raw_crm.subscriptions', 'stg_crm__subscriptions', 'subscriber_id'),
] -%}

{% for changed_table, staging, natural_key in changes %}
select
    {% for key in keys %}
    {{ key if key == natural_key else 'null' }}::bigint as {{ key }},
    {% endfor %}
    '{{ changed_table }}' as changed_table,
    _version
from {{ ref(staging) }}
union all
{% endfor %}
-- Histories hold deletions too; subscriptions have none.
select
    null as customer_id,
    subscriber_id,
    null as plan_id,
    changed_table,
    _version
from {{ ref('stg_crm__deleted_rows') }}
where changed_table = 'raw_crm.subscriptions'
