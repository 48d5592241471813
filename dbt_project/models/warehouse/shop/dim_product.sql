{% set attributes = [
    'product_name', 'brand', 'category_id', 'vendor_id', 'product_status', 'list_price_amount',
    'cost_amount', 'cost_currency', 'variant_count', 'weight_grams'
] %}

with versions as (
    {{ scd2_versions(ref('stg_catalog__products_history'), 'product_id', attributes) }}
),

-- The category tree keeps no history: its names are those of today on every version.
products as (
    select
        versions.*,
        categories.category_name,
        categories.department_name,
        categories.category_path
    from versions
    left join {{ ref('stg_catalog__categories') }} as categories
        on versions.category_id = categories.category_id
)

{{ scd2_dimension(
    'products', 'product_key', ['product_id'],
    [
        'product_id', 'product_name', 'brand', 'category_id', 'category_name', 'department_name',
        'category_path', 'vendor_id', 'product_status', 'list_price_amount', 'cost_amount',
        'cost_currency', 'variant_count', 'weight_grams'
    ],
    unknown={
        'product_name': 'Unknown', 'brand': 'Unknown', 'category_name': 'Unknown',
        'department_name': 'Unknown', 'category_path': 'Unknown', 'product_status': 'unknown',
    },
) }}
