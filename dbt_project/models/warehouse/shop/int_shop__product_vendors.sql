{{ config(materialized='view') }}

select
    products.product_key,
    products.vendor_id,
    coalesce(vendors.vendor_key, {{ unknown_key() }}) as vendor_key
from {{ ref('dim_product') }} as products
left join {{ ref('dim_vendor') }} as vendors on products.vendor_id = vendors.vendor_id
