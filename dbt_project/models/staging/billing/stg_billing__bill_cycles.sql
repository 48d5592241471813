select
    account_id,
    cycle_day::integer as cycle_day,
    time_zone,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'bill_cycles') }}
where not _deleted
