{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='message_id',
    indexes=[{'columns': ['message_id']}, {'columns': ['message_key'], 'unique': true}],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_inspire__deleted_rows'), 'seen_before') }}) as gone
        where gone.changed_table = 'raw_inspire.messages'
        and gone.message_id = fact.message_id
        and not exists (
            select 1 from {{ ref('stg_inspire__messages') }} as message
            where message.message_id = fact.message_id
        )",
) }}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_inspire__message_changes'), ref('int_inspire__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_inspire__dimension_changes')) }}),

touched_messages as (
    select message_id
    from ({{ changed_since_last_run(ref('int_inspire__message_changes')) }}) as message_changes
    union
    {{ rows_with_stale_key(
        ['message_id'], inspire_customer('coalesce(fact.sent_at, fact.created_at)')
    ) }}
),
{% endif %}

touched as {{ only_touched(ref('stg_inspire__messages'), 'message_id', 'touched_messages') }},

-- A message is of the time when it was sent, and until then, of the time when it was written.
messages as (
    select
        *,
        coalesce(sent_at, created_at) as happened_at
    from touched
),

touched_events as {{
    only_touched(ref('stg_inspire__message_events'), 'message_id', 'touched_messages')
}},

events as (
    select
        message_id,
        bool_or(event = 'delivered') as is_delivered,
        bool_or(event = 'opened') as is_opened,
        bool_or(event = 'clicked') as is_clicked,
        bool_or(event in ('unsubscribed', 'stopped')) as is_unsubscribed
    from touched_events
    group by message_id
),

zones as ({{ known_zones() }})

select
    {{ surrogate_key(['messages.message_id']) }} as message_key,
    messages.message_id,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    -- Of somebody without an account, nobody knows the zone.
    {{
        date_key('messages.happened_at', 'messages._loaded_at', "coalesce(zones.name, 'UTC')")
    }} as message_date,
    {{
        time_of_day_key('messages.happened_at', "coalesce(zones.name, 'UTC')")
    }} as time_of_day_key,
    messages.created_at,
    messages.sent_at,
    messages.channel,
    messages.purpose,
    messages.template,
    messages.message_state,
    coalesce(events.is_delivered, false) as is_delivered,
    coalesce(events.is_opened, false) as is_opened,
    coalesce(events.is_clicked, false) as is_clicked,
    coalesce(events.is_unsubscribed, false) as is_unsubscribed,
    messages.attempts as attempt_count,
    messages.user_id as customer_id
from messages
left join events on messages.message_id = events.message_id
{{ join_inspire_customer('messages', 'happened_at') }}
left join zones on customer.time_zone = zones.name
