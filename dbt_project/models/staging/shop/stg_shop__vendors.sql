select
    id::bigint as vendor_id,
    name as vendor_name,
    country_code,
    contact_email,
    contact_phone,
    rating,
    is_active <> 0 as is_active,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_shop', 'vendors') }}
where not _deleted
