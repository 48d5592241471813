-- Not incremental: a return comes late and may move to another line, and returns are few.
with lines as materialized (
    -- Found once. PostgreSQL has no statistics of cast keys, so it would guess that a line has many
    -- orders, and read all orders anew for each return.
    select *
    from {{ ref('int_shop__order_lines') }}
    where order_id in (select returns.order_id from {{ ref('stg_shop__returns') }} as returns)
)

select
    {{ surrogate_key(['returns.return_id']) }} as return_key,
    returns.return_id,
    returns.order_id,
    returns.line_number,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(product.product_key, {{ unknown_key() }}) as product_key,
    coalesce(store.store_key, {{ unknown_key() }}) as store_key,
    {{ date_key('returns.returned_at', 'returns._loaded_at') }} as return_date,
    {{ time_of_day_key('returns.returned_at') }} as time_of_day_key,
    returns.returned_at,
    {{ date_key('lines.ordered_at', 'lines._loaded_at') }} as order_date,
    returns.return_reason,
    returns.quantity as returned_quantity,
    returns.refund_amount,
    coalesce(lines.currency, 'XXX') as currency,
    lines.customer_id,
    lines.product_id,
    lines.store_id
from {{ ref('stg_shop__returns') }} as returns
left join lines
    on returns.order_id = lines.order_id and returns.line_number = lines.line_number
left join {{ ref('dim_customer') }} as customer
    on
        lines.customer_id = customer.customer_id
        and customer.line_of_business = 'shop'
        and {{ is_valid_at('customer', 'returns.returned_at') }}
left join {{ ref('dim_store') }} as store
    on
        lines.store_id = store.store_id
        and {{ is_valid_at('store', 'returns.returned_at') }}
left join {{ ref('dim_product') }} as product
    on
        lines.product_id = product.product_id
        and {{ is_valid_at('product', 'returns.returned_at') }}
