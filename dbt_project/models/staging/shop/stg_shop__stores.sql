select
    {{ shop_store_columns() }}
from {{ source('raw_shop', 'stores') }}
where not _deleted
