{{ config(materialized='view') }}

select
    charge_id,
    'raw_charging.charges' as changed_table,
    _version
from {{ ref('stg_charging__charges') }}
union all
select
    charge_id,
    changed_table,
    _version
from {{ ref('stg_charging__deleted_rows') }}
where changed_table = 'raw_charging.charges'
