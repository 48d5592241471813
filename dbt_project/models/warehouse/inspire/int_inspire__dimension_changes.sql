{{ config(materialized='view') }}

select
    user_id as customer_id,
    null::bigint as goal_id,
    'raw_inspire.users_history' as changed_table,
    _version
from {{ ref('stg_inspire__users_history') }}
union all
select
    user_id as customer_id,
    null as goal_id,
    'raw_inspire.user_goals' as changed_table,
    _version
from {{ ref('stg_inspire__user_goals') }}
union all
select
    null as customer_id,
    goal_id,
    'raw_inspire.goals' as changed_table,
    _version
from {{ ref('stg_inspire__goals') }}
union all
-- The history holds deletions too; the others have none.
select
    user_id as customer_id,
    goal_id,
    changed_table,
    _version
from {{ ref('stg_inspire__deleted_rows') }}
where changed_table in ('raw_inspire.user_goals', 'raw_inspire.goals')
