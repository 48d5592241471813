select
    {{ surrogate_key(['vendor_id']) }} as vendor_key,
    vendor_id,
    vendor_name,
    country_code,
    rating,
    is_active
from {{ ref('stg_shop__vendors') }}
union all
select
    {{ unknown_key() }} as vendor_key,
    null as vendor_id,
    'Unknown' as vendor_name,
    'Unknown' as country_code,
    null as rating,
    null as is_active
