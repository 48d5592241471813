select
    {{ crm_subscriber_columns() }}
from {{ source('raw_crm', 'subscribers') }}
where not _deleted
