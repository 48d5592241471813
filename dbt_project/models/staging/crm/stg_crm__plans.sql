select
    {{ crm_plan_columns() }}
from {{ source('raw_crm', 'plans') }}
where not _deleted
