-- The other staging views leave deleted documents out. The facts learn of them here.
select
    _id as workout_id,
    'raw_inspire_docs.activity_logs' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_inspire_docs', 'activity_logs') }}
where _deleted
