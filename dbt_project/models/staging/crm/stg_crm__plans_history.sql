select
    {{ crm_plan_columns() }},
    _deleted as is_deleted,
    _committed_at,
    _version
from {{ source('raw_crm', 'plans_history') }}
