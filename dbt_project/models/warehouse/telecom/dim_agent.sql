select
    {{ surrogate_key(['agent_id']) }} as agent_key,
    agent_id,
    full_name,
    team,
    hired_date,
    left_date
from {{ ref('stg_crm__agents') }}
union all
select
    {{ unknown_key() }} as agent_key,
    null as agent_id,
    'Unknown' as full_name,
    'unknown' as team,
    null as hired_date,
    null as left_date
