select {{ surrogate_key(['device']) }} as device_key, device
from (values ('laptop'), ('mobile'), ('tablet'), ('in_store')) as devices (device)
union all
select {{ unknown_key() }} as device_key, 'unknown' as device
