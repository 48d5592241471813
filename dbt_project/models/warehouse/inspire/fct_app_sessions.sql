{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='session_id',
    indexes=[{'columns': ['session_id']}, {'columns': ['session_key'], 'unique': true}],
) }}

{#- Nothing is ever deleted here: a session that is over at the source is one that has ended. -#}

{# dbt parses the model as one that is not incremental, and must learn of this. #}
{% if not execute %}
{% do [ref('int_inspire__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_inspire__dimension_changes')) }}),

touched_sessions as (
    select session_id
    from ({{ changed_since_last_run(ref('int_inspire__sessions')) }}) as session_changes
    union
    {{ rows_with_stale_key(['session_id'], inspire_customer('fact.started_at')) }}
),
{% endif %}

sessions as {{ only_touched(ref('int_inspire__sessions'), 'session_id', 'touched_sessions') }},

zones as ({{ known_zones() }})

select
    {{ surrogate_key(['sessions.session_id']) }} as session_key,
    sessions.session_id,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    {{ date_key('sessions.started_at', 'sessions._loaded_at', 'zones.name') }} as session_date,
    coalesce({{ time_of_day_key('sessions.started_at', 'zones.name') }}, -1) as time_of_day_key,
    sessions.started_at,
    sessions.ended_at,
    sessions.ended_by,
    sessions.device,
    sessions.page_views,
    sessions.workouts_logged,
    sessions.user_id as customer_id
from sessions
left join zones on sessions.time_zone = zones.name
{{ join_inspire_customer('sessions', 'started_at') }}
