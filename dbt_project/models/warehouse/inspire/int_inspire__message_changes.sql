{{ config(materialized='view') }}

select
    message_id,
    'raw_inspire.messages' as changed_table,
    _version
from {{ ref('stg_inspire__messages') }}
union all
select
    message_id,
    'raw_inspire.message_events' as changed_table,
    _version
from {{ ref('stg_inspire__message_events') }}
union all
select
    message_id,
    changed_table,
    _version
from {{ ref('stg_inspire__deleted_rows') }}
where changed_table in ('raw_inspire.messages', 'raw_inspire.message_events')
