select
    id as agent_id,
    full_name,
    email,
    team,
    hired_on as hired_date,
    left_on as left_date,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_crm', 'agents') }}
where not _deleted
