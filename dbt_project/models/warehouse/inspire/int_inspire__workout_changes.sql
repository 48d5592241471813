{{ config(materialized='view') }}

select
    workout_id,
    'raw_inspire_docs.activity_logs' as changed_table,
    _version
from {{ ref('stg_inspire_docs__activity_logs') }}
union all
select
    workout_id,
    changed_table,
    _version
from {{ ref('stg_inspire_docs__deleted_rows') }}
where changed_table = 'raw_inspire_docs.activity_logs'
