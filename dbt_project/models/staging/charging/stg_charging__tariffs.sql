select
    id as tariff_id,
    plan_id,
    kind as tariff_kind,
    unit,
    price as price_amount,
    currency,
    valid_from at time zone 'UTC' as valid_from,
    valid_to at time zone 'UTC' as valid_to,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_charging', 'tariffs') }}
where not _deleted
