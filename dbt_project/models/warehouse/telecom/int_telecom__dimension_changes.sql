{{ config(materialized='view') }}

{#- A subscription may move to another subscriber. Its own key leads to facts of the former one. -#}
{%- set keys = ['customer_id', 'subscriber_id', 'subscription_id', 'plan_id'] -%}
{%- set changes = [
    ('raw_crm.customers_history', 'stg_crm__customers_history', ['customer_id']),
    ('raw_crm.subscribers_history', 'stg_crm__subscribers_history', ['subscriber_id']),
    ('raw_crm.plans_history', 'stg_crm__plans_history', ['plan_id']),
    ('raw_crm.subscriptions', 'stg_crm__subscriptions', ['subscriber_id', 'subscription_id']),
] -%}

{% for changed_table, staging, natural_keys in changes %}
select
    {% for key in keys %}
    {{ key if key in natural_keys else 'null' }}::bigint as {{ key }},
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
    subscription_id,
    null as plan_id,
    changed_table,
    _version
from {{ ref('stg_crm__deleted_rows') }}
where changed_table = 'raw_crm.subscriptions'
