-- A corrected file may lack records of the file that it replaces. The fact learns of them here.
select
    operator as operator_code,
    record_id as roaming_record_id,
    'raw_roaming.records' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_roaming', 'records') }}
where _deleted
