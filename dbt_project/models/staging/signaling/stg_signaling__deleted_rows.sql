-- The other staging views leave deleted rows out. The facts learn of them here.
select
    id as call_record_id,
    event_id,
    'raw_signaling.call_records' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_signaling', 'call_records') }}
where _deleted
