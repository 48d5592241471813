{% set attributes = [
    'product_name', 'brand', 'category_id', 'vendor_id', 'product_status', 'list_price_amount',
    'cost_amount', 'cost_currency', 'variant_count', 'weight_grams'
] %}

with versions as (
    {{ scd2_versions(ref('stg_catalog__products_history'), 'product_id', attributes) }}
)

-- The category tree keeps no history: its names are those of today on every version.
select
    {{ version_key(['product_id'], 'valid_from') }} as product_key,
    versions.product_id,
    versions.product_name,
    versions.brand,
    versions.category_id,
    categories.category_name,
    categories.department_name,
    categories.category_path,
    versions.vendor_id,
    versions.product_status,
    versions.list_price_amount,
    versions.cost_amount,
    versions.cost_currency,
    versions.variant_count,
    versions.weight_grams,
    versions.is_deleted,
    versions.valid_from,
    versions.valid_to,
    versions.is_current,
    versions.version_number
from versions
left join {{ ref('stg_catalog__categories') }} as categories
    on versions.category_id = categories.category_id
union all
select
    {{ unknown_key() }} as product_key,
    null as product_id,
    'Unknown' as product_name,
    'Unknown' as brand,
    null as category_id,
    'Unknown' as category_name,
    'Unknown' as department_name,
    'Unknown' as category_path,
    null as vendor_id,
    'unknown' as product_status,
    null as list_price_amount,
    null as cost_amount,
    null as cost_currency,
    null as variant_count,
    null as weight_grams,
    false as is_deleted,
    '1900-01-01 00:00+00' as valid_from,
    '9999-12-31 00:00+00' as valid_to,
    true as is_current,
    1 as version_number
