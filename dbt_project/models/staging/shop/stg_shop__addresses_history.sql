select
    {{ shop_address_columns() }},
    _deleted as is_deleted,
    _committed_at,
    _version
from {{ source('raw_shop', 'addresses_history') }}
