with
devices as (
    {{ union_of_lines('devices', ['device']) }}
)

-- Two lines may name the same device.
select distinct
    {{ surrogate_key(['device']) }} as device_key,
    device
from devices
union all
select
    {{ unknown_key() }} as device_key,
    'unknown' as device
