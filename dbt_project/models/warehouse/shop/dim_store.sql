{% set attributes = [
    'store_code', 'store_name', 'channel', 'city', 'region', 'country_code', 'opened_date',
    'closed_date', 'floor_area_m2'
] %}

with versions as (
    {{ scd2_versions(ref('stg_shop__stores_history'), 'store_id', attributes) }}
)

select
    {{ version_key(['store_id'], 'valid_from') }} as store_key,
    store_id,
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
    {{ unknown_key() }} as store_key,
    null as store_id,
    null as store_code,
    'Unknown' as store_name,
    'unknown' as channel,
    'Unknown' as city,
    'Unknown' as region,
    'Unknown' as country_code,
    null as opened_date,
    null as closed_date,
    null as floor_area_m2,
    false as is_deleted,
    '1900-01-01 00:00+00' as valid_from,
    '9999-12-31 00:00+00' as valid_to,
    true as is_current,
    1 as version_number
