select
    order_id::bigint as order_id,
    line_number::integer as line_number,
    product_id,
    variant_sku,
    quantity,
    unit_price as unit_price_amount,
    unit_cost as unit_cost_amount,
    discount_amount,
    tax_rate,
    tax_amount,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_shop', 'order_lines') }}
where not _deleted
