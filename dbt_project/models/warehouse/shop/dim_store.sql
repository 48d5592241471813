{% set columns = [
    'store_id', 'store_code', 'store_name', 'channel', 'city', 'region', 'country_code',
    'opened_date', 'closed_date', 'floor_area_m2'
] %}

with versions as (
    {{ scd2_versions(ref('stg_shop__stores_history'), 'store_id', columns) }}
)

{{ scd2_dimension(
    'versions', 'store_key', ['store_id'], columns,
    unknown={
        'store_name': 'Unknown', 'channel': 'unknown', 'city': 'Unknown', 'region': 'Unknown',
        'country_code': 'Unknown',
    },
) }}
