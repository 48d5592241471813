select
    subscriber_id,
    amount,
    currency,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_charging', 'balances') }}
where not _deleted
