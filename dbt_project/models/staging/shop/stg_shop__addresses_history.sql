select
    {{ shop_address_columns() }},
    _deleted as is_deleted,
    _version
from {{ source('raw_shop', 'addresses_history') }}
