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
select {{ unknown_key() }}, null, null, 'Unknown', 'unknown', null, null
