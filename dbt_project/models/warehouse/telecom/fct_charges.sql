{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='charge_id',
    indexes=[{'columns': ['charge_id']}, {'columns': ['charge_key'], 'unique': true}],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_charging__deleted_rows'), 'seen_before') }}) as gone
        where gone.changed_table = 'raw_charging.charges'
        and gone.charge_id = fact.charge_id
        and not exists (
            select 1 from {{ ref('stg_charging__charges') }} as charge
            where charge.charge_id = fact.charge_id
        )",
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_telecom__charge_changes'), ref('int_telecom__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_telecom__dimension_changes')) }}),

touched_charges as (
    select charge_id
    from ({{ changed_since_last_run(ref('int_telecom__charge_changes')) }}) as charge_changes
    union
    {{ telecom_rows_with_stale_key(['charge_id'], 'event_at') }}
),
{% endif %}

charges as {{ only_touched(ref('stg_charging__charges'), 'charge_id', 'touched_charges') }}

select
    {{ surrogate_key(['charges.charge_id']) }} as charge_key,
    charges.charge_id,
    charges.event_id,
    coalesce(subscriber.subscriber_key, {{ unknown_key() }}) as subscriber_key,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(plan.plan_key, {{ unknown_key() }}) as plan_key,
    {{ date_key('charges.event_at', 'charges._loaded_at') }} as event_date,
    {{ time_of_day_key('charges.event_at') }} as time_of_day_key,
    charges.event_at,
    charges.recorded_at,
    charges.charge_kind,
    charges.reversed_charge_id is not null as is_correction,
    charges.quantity,
    charges.amount,
    charges.currency,
    charges.subscriber_id,
    subscriber.customer_id,
    subscriber.account_id,
    period.subscription_id,
    coalesce(period.plan_id, subscriber.plan_id) as plan_id
from charges
{{ join_telecom_dimensions('charges', 'event_at') }}
