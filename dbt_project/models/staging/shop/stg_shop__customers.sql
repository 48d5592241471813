select
    {{ shop_customer_columns() }}
from {{ source('raw_shop', 'customers') }}
where not _deleted
