-- The kinds are those of the application. `unit`: in what its people count it.
select
    {{ surrogate_key(['activity']) }} as activity_key,
    activity,
    name,
    is_endurance,
    is_heavy,
    unit
from (
    values
    ('run', 'Running', true, true, 'metres'),
    ('ride', 'Cycling', true, true, 'metres'),
    ('swim', 'Swimming', true, true, 'metres'),
    ('walk', 'Walking', true, false, 'metres'),
    ('strength', 'Strength', false, true, 'kilograms'),
    ('yoga', 'Yoga', false, false, 'minutes')
) as kinds (activity, name, is_endurance, is_heavy, unit)
union all
select
    {{ unknown_key() }} as activity_key,
    'unknown' as activity,
    'Unknown' as name,
    null as is_endurance,
    null as is_heavy,
    'minutes' as unit
