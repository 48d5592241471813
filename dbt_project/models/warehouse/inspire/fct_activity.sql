{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='workout_id',
    indexes=[{'columns': ['workout_id']}, {'columns': ['workout_key'], 'unique': true}],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_inspire_docs__deleted_rows'), 'seen_before') }}) as gone
        where gone.changed_table = 'raw_inspire_docs.activity_logs'
        and gone.workout_id = fact.workout_id
        and not exists (
            select 1 from {{ ref('stg_inspire_docs__activity_logs') }} as workout
            where workout.workout_id = fact.workout_id
        )",
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_inspire__workout_changes'), ref('int_inspire__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_inspire__dimension_changes')) }}),

touched_workouts as (
    select workout_id
    from ({{ changed_since_last_run(ref('int_inspire__workout_changes')) }}) as workout_changes
    union
    {{ rows_with_stale_key(
        ['workout_id'],
        dict(inspire_customer('fact.started_at'), goal={
            'relation': ref('dim_fitness_goal'), 'natural_key': 'goal_id',
            'key': 'fitness_goal_key',
        }),
        joins=join_workout_circumstances('fact.customer_id', 'fact.activity_date'),
        or_stale="fact.goal_id is distinct from period.goal_id"
            ~ " or fact.region <> coalesce(customer.region, 'Unknown')"
            ~ " or fact.age_years is distinct from "
            ~ age_years('fact.activity_date', 'latest.birth_date'),
    ) }}
),
{% endif %}

logs as {{
    only_touched(ref('stg_inspire_docs__activity_logs'), 'workout_id', 'touched_workouts')
}},

zones as ({{ known_zones() }}),

workouts as (
    select
        logs.*,
        {{ date_key('logs.started_at', 'logs._loaded_at', 'zones.name') }} as activity_date,
        coalesce({{ time_of_day_key('logs.started_at', 'zones.name') }}, -1) as time_of_day_key
    from logs
    left join zones on logs.time_zone = zones.name
)

select
    {{ surrogate_key(['workouts.workout_id']) }} as workout_key,
    workouts.workout_id,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(activity.activity_key, {{ unknown_key() }}) as activity_key,
    coalesce(goal.fitness_goal_key, {{ unknown_key() }}) as fitness_goal_key,
    workouts.activity_date,
    workouts.time_of_day_key,
    workouts.started_at,
    workouts.time_zone,
    coalesce(customer.region, 'Unknown') as region,
    workouts.origin,
    workouts.duration_seconds,
    workouts.distance_m,
    workouts.ascent_m,
    {{ moved_kg('workouts.sets') }} as load_kg,
    workouts.effort,
    {{ age_years('workouts.activity_date', 'latest.birth_date') }} as age_years,
    workouts.user_id as customer_id,
    period.goal_id
from workouts
{{ join_inspire_customer('workouts', 'started_at') }}
{{ join_workout_circumstances('workouts.user_id', 'workouts.activity_date') }}
left join {{ ref('dim_fitness_goal') }} as goal on period.goal_id = goal.goal_id
left join {{ ref('dim_activity') }} as activity on workouts.activity = activity.activity
