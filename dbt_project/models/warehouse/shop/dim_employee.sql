select
    {{ surrogate_key(['employee_id']) }} as employee_key,
    employee_id,
    store_id,
    full_name,
    role,
    hired_date,
    left_date
from {{ ref('stg_shop__employees') }}
union all
select
    {{ unknown_key() }} as employee_key,
    null as employee_id,
    null as store_id,
    'Unknown' as full_name,
    'unknown' as role,
    null as hired_date,
    null as left_date
