{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='payment_id',
    indexes=[{'columns': ['payment_id']}, {'columns': ['payment_key'], 'unique': true}],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_shop__deleted_rows'), 'seen_before') }}) as gone
        where gone.changed_table = 'raw_shop.payments'
        and gone.payment_id = fact.payment_id
        and not exists (
            select 1 from {{ ref('stg_shop__payments') }} as payment
            where payment.payment_id = fact.payment_id
        )",
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_shop__order_changes'), ref('int_shop__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_shop__dimension_changes')) }}),

-- Orders whose payments are rebuilt, see fct_order_lines.
touched_orders as (
    select order_id
    from ({{ changed_since_last_run(ref('int_shop__order_changes')) }}) as order_changes
    where changed_table in ('raw_shop.orders', 'raw_shop.payments')
    union
    {{ rows_with_stale_key(
        ['order_id'],
        {
            'customer': {
                'relation': ref('dim_customer'), 'natural_key': 'customer_id',
                'key': 'customer_key', 'instant': 'fact.paid_at', 'line': 'shop',
            },
            'store': {
                'relation': ref('dim_store'), 'natural_key': 'store_id',
                'key': 'store_key', 'instant': 'fact.paid_at',
            },
        },
    ) }}
),
{% endif %}

orders as {{ only_touched(ref('stg_shop__orders'), 'order_id', 'touched_orders') }},

touched_payments as {{ only_touched(ref('stg_shop__payments'), 'order_id', 'touched_orders') }},

payments as (
    select
        payments.*,
        orders.customer_id,
        orders.store_id,
        orders.device
    from touched_payments as payments
    left join orders on payments.order_id = orders.order_id
)

select
    {{ surrogate_key(['payments.payment_id']) }} as payment_key,
    payments.payment_id,
    payments.order_id,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(store.store_key, {{ unknown_key() }}) as store_key,
    coalesce(device.device_key, {{ unknown_key() }}) as device_key,
    {{ date_key('payments.paid_at', 'payments._loaded_at') }} as payment_date,
    {{ time_of_day_key('payments.paid_at') }} as time_of_day_key,
    payments.paid_at,
    payments.payment_method,
    payments.payment_status,
    payments.amount,
    (case when payments.payment_status = 'captured' then payments.amount else 0 end)::numeric(12, 2)
        as captured_amount,
    payments.currency,
    payments.customer_id,
    payments.store_id
from payments
left join {{ ref('dim_customer') }} as customer
    on
        payments.customer_id = customer.customer_id
        and customer.line_of_business = 'shop'
        and {{ is_valid_at('customer', 'payments.paid_at') }}
left join {{ ref('dim_store') }} as store
    on
        payments.store_id = store.store_id
        and {{ is_valid_at('store', 'payments.paid_at') }}
left join {{ ref('dim_device') }} as device
    on
        -- As in fct_order_lines.
        coalesce(payments.device, case when store.channel = 'physical' then 'in_store' end)
        = device.device
