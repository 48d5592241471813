-- The other staging views leave deleted rows out. The facts learn of them here.
select
    id as charge_id,
    'raw_charging.charges' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_charging', 'charges') }}
where _deleted
