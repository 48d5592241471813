select
    {{ surrogate_key(['vendor_id']) }} as vendor_key,
    vendor_id,
    vendor_name,
    country_code,
    rating,
    is_active
from {{ ref('stg_shop__vendors') }}
union all
select {{ unknown_key() }}, null, 'Unknown', 'Unknown', null, null
