select
    minute_of_day as time_of_day_key,
    minute_of_day / 60 as hour,
    minute_of_day % 60 as minute,
    case
        when minute_of_day < 6 * 60 then 'night'
        when minute_of_day < 12 * 60 then 'morning'
        when minute_of_day < 18 * 60 then 'afternoon'
        else 'evening'
    end as day_part
from generate_series(0, 24 * 60 - 1) as minute_of_day
union all
select
    -1 as time_of_day_key,
    null as hour,
    null as minute,
    'unknown' as day_part
