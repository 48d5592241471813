select
    {{ shop_address_columns() }}
from {{ source('raw_shop', 'addresses') }}
where not _deleted
