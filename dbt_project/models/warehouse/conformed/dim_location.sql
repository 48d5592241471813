-- Every place that a line of business ever had. No version of an address is without its location.
with
places as (
    {{ union_of_lines('locations', ['country_code', 'region', 'city']) }}
)

select distinct
    {{ surrogate_key(['country_code', 'region', 'city']) }} as location_key,
    country_code,
    region,
    city
from places
union all
select
    {{ unknown_key() }} as location_key,
    'Unknown' as country_code,
    'Unknown' as region,
    'Unknown' as city
