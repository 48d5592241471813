select
    {{ crm_customer_columns() }}
from {{ source('raw_crm', 'customers') }}
where not _deleted
