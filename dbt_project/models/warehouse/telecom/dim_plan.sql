{% set attributes = [
    'plan_code', 'plan_name', 'plan_kind', 'currency', 'monthly_fee_amount', 'included_minutes',
    'included_sms', 'included_mb', 'is_on_sale'
] %}

with versions as (
    {{ scd2_versions(ref('stg_crm__plans_history'), 'plan_id', attributes) }}
)

select
    {{ version_key(['plan_id'], 'valid_from') }} as plan_key,
    plan_id,
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
    {{ unknown_key() }} as plan_key,
    null as plan_id,
    null as plan_code,
    'Unknown' as plan_name,
    'unknown' as plan_kind,
    null as currency,
    null as monthly_fee_amount,
    null as included_minutes,
    null as included_sms,
    null as included_mb,
    null as is_on_sale,
    false as is_deleted,
    '1900-01-01 00:00+00' as valid_from,
    '9999-12-31 00:00+00' as valid_to,
    true as is_current,
    1 as version_number
