-- The other staging views leave deleted rows out. The facts learn of them here.
select
    id as goal_id,
    null::bigint as user_id,
    null::bigint as message_id,
    'raw_inspire.goals' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'goals') }}
where _deleted
union all
select
    null as goal_id,
    user_id,
    null as message_id,
    'raw_inspire.user_goals' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'user_goals') }}
where _deleted
union all
select
    null as goal_id,
    null as user_id,
    id as message_id,
    'raw_inspire.messages' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'messages') }}
where _deleted
union all
select
    null as goal_id,
    null as user_id,
    message_id,
    'raw_inspire.message_events' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'message_events') }}
where _deleted
