{{ config(materialized='view') }}

select
    call_record_id,
    event_id,
    'raw_signaling.call_records' as changed_table,
    _version
from {{ ref('stg_signaling__call_records') }}
union all
select
    call_record_id,
    event_id,
    changed_table,
    _version
from {{ ref('stg_signaling__deleted_rows') }}
where changed_table = 'raw_signaling.call_records'
