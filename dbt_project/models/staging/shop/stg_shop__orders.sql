select
    id::bigint as order_id,
    customer_id::bigint as customer_id,
    store_id::bigint as store_id,
    employee_id::bigint as employee_id,
    shipping_address_id::bigint as shipping_address_id,
    device,
    status as order_status,
    currency,
    ordered_at at time zone 'UTC' as ordered_at,
    promised_on as promised_date,
    shipping_amount,
    total_amount,
    note,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_shop', 'orders') }}
where not _deleted
