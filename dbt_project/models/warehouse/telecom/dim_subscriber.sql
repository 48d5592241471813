{% set attributes = [
    'customer_id', 'account_id', 'msisdn', 'subscriber_kind', 'subscriber_state', 'plan_id',
    'region', 'time_zone', 'activated_at', 'cancelled_at', 'cancel_reason'
] %}

with versions as (
    {{ scd2_versions(ref('stg_crm__subscribers_history'), 'subscriber_id', attributes) }}
)

select
    {{ version_key(['subscriber_id'], 'valid_from') }} as subscriber_key,
    subscriber_id,
    {% for attribute in attributes %}
    {{ attribute }},
    {% endfor %}
    is_deleted,
    valid_from,
    valid_to,
    is_current,
    version_number
from versions
union all
select
    {{ unknown_key() }} as subscriber_key,
    null as subscriber_id,
    null as customer_id,
    null as account_id,
    null as msisdn,
    'unknown' as subscriber_kind,
    'unknown' as subscriber_state,
    null as plan_id,
    'Unknown' as region,
    null as time_zone,
    null as activated_at,
    null as cancelled_at,
    null as cancel_reason,
    false as is_deleted,
    '1900-01-01 00:00+00' as valid_from,
    '9999-12-31 00:00+00' as valid_to,
    true as is_current,
    1 as version_number
