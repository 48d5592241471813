{{ config(materialized='view') }}

select
    operator_code,
    roaming_record_id,
    'raw_roaming.records' as changed_table,
    _version
from {{ ref('stg_roaming__records') }}
union all
select
    operator_code,
    roaming_record_id,
    changed_table,
    _version
from {{ ref('stg_roaming__deleted_rows') }}
