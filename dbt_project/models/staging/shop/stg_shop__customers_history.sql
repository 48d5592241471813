select
    {{ shop_customer_columns() }},
    _deleted as is_deleted,
    _committed_at,
    _version
from {{ source('raw_shop', 'customers_history') }}
