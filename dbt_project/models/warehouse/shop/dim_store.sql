{% set attributes = [
    'store_code', 'store_name', 'channel', 'city', 'region', 'country_code', 'opened_date', 'closed_date', 'floor_area_m2'
] %}

with versions as (
    {{ scd2_versions(ref('stg_shop__stores_history'), 'store_id', attributes) }}
)

select
    {{ version_key('store_id', 'valid_from') }} as store_key,
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
    {{ unknown_key() }}, null, null, 'Unknown', 'unknown', 'Unknown', 'Unknown', 'Unknown', null, null, null,
    false, '1900-01-01 00:00+00', '9999-12-31 00:00+00', true, 1
