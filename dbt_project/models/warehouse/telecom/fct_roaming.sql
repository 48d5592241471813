{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['operator_code', 'roaming_record_id'],
    indexes=[
        {'columns': ['operator_code', 'roaming_record_id']},
        {'columns': ['roaming_key'], 'unique': true},
    ],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_roaming__deleted_rows'), 'seen_before') }}) as gone
        where gone.operator_code = fact.operator_code
        and gone.roaming_record_id = fact.roaming_record_id
        and not exists (
            select 1 from {{ ref('stg_roaming__records') }} as record
            where record.operator_code = fact.operator_code
            and record.roaming_record_id = fact.roaming_record_id
        )",
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_telecom__roaming_changes'), ref('int_telecom__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_telecom__dimension_changes')) }}),

touched_records as (
    select
        operator_code,
        roaming_record_id
    from ({{ changed_since_last_run(ref('int_telecom__roaming_changes')) }}) as roaming_changes
    union
    {{ telecom_rows_with_stale_key(['operator_code', 'roaming_record_id'], 'started_at') }}
),
{% endif %}

records as {{
    only_touched(
        ref('stg_roaming__records'), 'operator_code, roaming_record_id', 'touched_records'
    )
}}

select
    {{ surrogate_key(['records.operator_code', 'records.roaming_record_id']) }} as roaming_key,
    records.operator_code,
    records.roaming_record_id,
    coalesce(subscriber.subscriber_key, {{ unknown_key() }}) as subscriber_key,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(plan.plan_key, {{ unknown_key() }}) as plan_key,
    {{ date_key('records.started_at', 'records._loaded_at') }} as event_date,
    {{ time_of_day_key('records.started_at') }} as time_of_day_key,
    records.started_at,
    records.recorded_at,
    records.roaming_kind,
    records.duration_seconds,
    records.quantity,
    records.cost_amount,
    records.currency,
    records.subscriber_id,
    subscriber.customer_id,
    period.subscription_id,
    coalesce(period.plan_id, subscriber.plan_id) as plan_id
from records
{{ join_telecom_dimensions('records', 'started_at') }}
