-- Every place that an address or a store ever had, so that no version of one is without its location.
with places as (
    select country_code, region, city
    from {{ ref('stg_shop__addresses_history') }}
    union
    select country_code, region, city
    from {{ ref('stg_shop__stores_history') }}
)

select
    {{ surrogate_key(['country_code', 'region', 'city']) }} as location_key,
    country_code,
    region,
    city
from places
union all
select {{ unknown_key() }}, 'Unknown', 'Unknown', 'Unknown'
