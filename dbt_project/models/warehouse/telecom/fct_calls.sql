{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='event_id',
    indexes=[
        {'columns': ['event_id', 'direction']},
        {'columns': ['call_record_id']},
        {'columns': ['call_key'], 'unique': true},
    ],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('int_telecom__call_changes'), 'seen_before') }}) as gone
        where gone.call_record_id = fact.call_record_id
        and not exists (
            select 1 from {{ ref('stg_signaling__call_records') }} as record
            where record.call_record_id = fact.call_record_id
            and record.event_id = fact.event_id and record.direction is not distinct from fact.direction
        )",
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_telecom__call_changes'), ref('int_telecom__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_telecom__dimension_changes')) }}),

call_changes as ({{ changed_since_last_run(ref('int_telecom__call_changes')) }}),

-- Calls to rebuild. A record that now has another event may have been the first of the one it had.
touched_calls as (
    select event_id
    from call_changes
    union
    select fact.event_id
    from {{ this }} as fact
    where fact.call_record_id in (select call_changes.call_record_id from call_changes)
    union
    {{ telecom_rows_with_stale_key(['event_id'], 'started_at') }}
),
{% endif %}

records as {{
    only_touched(ref('stg_signaling__call_records'), 'event_id', 'touched_calls')
}},

-- The network may write the record of a call several times. The first one counts.
calls as (
    select
        records.*,
        row_number() over (
            partition by records.event_id, records.direction
            order by records.call_record_id
        ) as record_number
    from records
)

select
    {{ surrogate_key(['calls.event_id', 'calls.direction']) }} as call_key,
    calls.event_id,
    calls.direction,
    calls.call_record_id,
    coalesce(subscriber.subscriber_key, {{ unknown_key() }}) as subscriber_key,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(plan.plan_key, {{ unknown_key() }}) as plan_key,
    {{ date_key('calls.started_at', 'calls._loaded_at') }} as call_date,
    {{ time_of_day_key('calls.started_at') }} as time_of_day_key,
    calls.started_at,
    calls.recorded_at,
    calls.termination,
    calls.termination = 'dropped' as is_dropped,
    calls.duration_seconds,
    calls.region,
    calls.subscriber_id,
    subscriber.customer_id,
    period.subscription_id,
    coalesce(period.plan_id, subscriber.plan_id) as plan_id
from calls
{{ join_telecom_dimensions('calls', 'started_at') }}
where calls.record_number = 1
