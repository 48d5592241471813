select
    id::bigint as employee_id,
    store_id::bigint as store_id,
    full_name,
    email,
    role,
    hired_on as hired_date,
    left_on as left_date,
    salary_amount,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_shop', 'employees') }}
where not _deleted
