select
    id as charge_id,
    subscriber_id,
    event_id,
    kind as charge_kind,
    quantity,
    amount,
    currency,
    tariff_id,
    event_at at time zone 'UTC' as event_at,
    recorded_at at time zone 'UTC' as recorded_at,
    reverses_id as reversed_charge_id,
    _loaded_at,
    _version
from {{ source('raw_charging', 'charges') }}
where not _deleted
