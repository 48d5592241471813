{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='order_id',
    indexes=[
        {'columns': ['order_id', 'line_number']},
        {'columns': ['order_line_key'], 'unique': true},
    ],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_shop__deleted_rows'), 'seen_before') }}) as gone
        where gone.changed_table = 'raw_shop.order_lines'
        and gone.order_id = fact.order_id
        and not exists (
            select 1 from {{ ref('stg_shop__order_lines') }} as line
            where line.order_id = fact.order_id and line.line_number = fact.line_number
        )",
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_shop__order_changes'), ref('int_shop__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_shop__dimension_changes')) }}),

-- The vendor of a fact is that of its product.
products_of_changed_vendors as (
    select product_id
    from {{ ref('dim_product') }}
    where vendor_id in (select change.vendor_id from dimension_changes as change)
),

-- Orders to rebuild as a whole. Their own rows changed, or a dimension or the returns give another
-- answer than before. All lines with returns, now or before, are compared, because a return that
-- moves to another line leaves no trace at the old one.
touched_orders as (
    select order_id
    from ({{ changed_since_last_run(ref('int_shop__order_changes')) }}) as order_changes
    where changed_table <> 'raw_shop.payments'
    union
    {{ rows_with_stale_key(
        ['order_id'],
        {
            'customer': {
                'relation': ref('dim_customer'), 'natural_key': 'customer_id',
                'key': 'customer_key', 'instant': 'fact.ordered_at', 'line': 'shop',
            },
            'store': {
                'relation': ref('dim_store'), 'natural_key': 'store_id',
                'key': 'store_key', 'instant': 'fact.ordered_at',
            },
            'product': {
                'relation': ref('dim_product'), 'natural_key': 'product_id',
                'key': 'product_key', 'instant': 'fact.ordered_at',
            },
            'employee': {
                'relation': ref('dim_employee'), 'natural_key': 'employee_id',
                'key': 'employee_key',
            },
        },
        or_rows="fact.product_id in (select product_id from products_of_changed_vendors)"
            ~ " or (fact.order_id, fact.line_number) in ("
            ~ "select order_id, line_number from " ~ ref('int_shop__order_line_returns') ~ ")"
            ~ " or fact.returned_quantity <> 0 or fact.refund_amount <> 0",
        joins="left join " ~ ref('dim_vendor') ~ " as vendor"
            ~ " on product.vendor_id = vendor.vendor_id"
            ~ " left join " ~ ref('int_shop__order_line_returns') ~ " as returns"
            ~ " on fact.order_id = returns.order_id and fact.line_number = returns.line_number",
        or_stale="fact.vendor_key <> coalesce(vendor.vendor_key, " ~ unknown_key() ~ ")"
            ~ " or fact.returned_quantity <> coalesce(returns.returned_quantity, 0)"
            ~ " or fact.refund_amount <> coalesce(returns.refund_amount, 0)",
    ) }}
),
{% endif %}

lines as {{ only_touched(ref('int_shop__order_lines'), 'order_id', 'touched_orders') }},

returns as {{ only_touched(ref('int_shop__order_line_returns'), 'order_id', 'touched_orders') }},

addresses as (
    select *
    from {{ ref('stg_shop__addresses_history') }}
    {% if is_incremental() %}
    where address_id in (select lines.shipping_address_id from lines)
    {% endif %}
),

address_versions as (
    {{ scd2_versions('addresses', 'address_id', ['country_code', 'region', 'city']) }}
)

select
    {{ surrogate_key(['lines.order_id', 'lines.line_number']) }} as order_line_key,
    lines.order_id,
    lines.line_number,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(product.product_key, {{ unknown_key() }}) as product_key,
    coalesce(store.store_key, {{ unknown_key() }}) as store_key,
    coalesce(employee.employee_key, {{ unknown_key() }}) as employee_key,
    coalesce(vendor.vendor_key, {{ unknown_key() }}) as vendor_key,
    case
        when address.address_id is not null
            then {{ surrogate_key(['address.country_code', 'address.region', 'address.city']) }}
        when lines.shipping_address_id is null and store.channel = 'physical'
            then {{ surrogate_key(['store.country_code', 'store.region', 'store.city']) }}
        else {{ unknown_key() }}
    end as location_key,
    coalesce(device.device_key, {{ unknown_key() }}) as device_key,
    {{ date_key('lines.ordered_at', 'lines._loaded_at') }} as order_date,
    {{ time_of_day_key('lines.ordered_at') }} as time_of_day_key,
    lines.ordered_at,
    lines.order_status,
    lines.order_status = 'cancelled' as is_cancelled,
    lines.quantity,
    lines.unit_price_amount,
    lines.gross_amount,
    lines.discount_amount,
    lines.net_amount,
    lines.tax_amount,
    lines.cost_amount,
    (lines.net_amount - lines.cost_amount)::numeric(24, 2) as margin_amount,
    coalesce(returns.returned_quantity, 0) as returned_quantity,
    coalesce(returns.refund_amount, 0)::numeric(24, 2) as refund_amount,
    lines.currency,
    lines.customer_id,
    lines.product_id,
    lines.store_id,
    lines.employee_id
from lines
left join returns
    on lines.order_id = returns.order_id and lines.line_number = returns.line_number
left join address_versions as address
    on
        lines.shipping_address_id = address.address_id
        and {{ is_valid_at('address', 'lines.ordered_at') }}
left join {{ ref('dim_customer') }} as customer
    on
        lines.customer_id = customer.customer_id
        and customer.line_of_business = 'shop'
        and {{ is_valid_at('customer', 'lines.ordered_at') }}
left join {{ ref('dim_store') }} as store
    on
        lines.store_id = store.store_id
        and {{ is_valid_at('store', 'lines.ordered_at') }}
left join {{ ref('dim_product') }} as product
    on
        lines.product_id = product.product_id
        and {{ is_valid_at('product', 'lines.ordered_at') }}
left join {{ ref('dim_vendor') }} as vendor on product.vendor_id = vendor.vendor_id
left join {{ ref('dim_employee') }} as employee on lines.employee_id = employee.employee_id
left join {{ ref('dim_device') }} as device
    on
        not lines.is_order_missing
        -- Without a device, only an order of a physical store was taken there.
        and coalesce(lines.device, case when store.channel = 'physical' then 'in_store' end)
        = device.device
