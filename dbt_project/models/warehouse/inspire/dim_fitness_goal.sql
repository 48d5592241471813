select
    {{ surrogate_key(['goal_id']) }} as fitness_goal_key,
    goal_id,
    goal_code,
    goal_name as name,
    unit
from {{ ref('stg_inspire__goals') }}
union all
select
    {{ unknown_key() }} as fitness_goal_key,
    null as goal_id,
    'none' as goal_code,
    'None' as name,
    null as unit
