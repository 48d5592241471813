select
    {{ shop_store_columns() }},
    _deleted as is_deleted,
    _committed_at,
    _version
from {{ source('raw_shop', 'stores_history') }}
