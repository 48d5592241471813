{{ config(meta={'dagster': {'ref': {'name': 'fct_messages'}}}) }}

-- Messages, attempts and events of the fact equal the source's, per channel, purpose and state. An
-- event without its message is in no row. An array equals another one where both have null.
with fact as (
    select
        channel,
        purpose,
        message_state,
        count(*) as message_count,
        count(sent_at) as sent_count,
        sum(attempt_count) as attempt_count,
        count(*) filter (where is_delivered) as delivered_count,
        count(*) filter (where is_opened) as opened_count,
        count(*) filter (where is_clicked) as clicked_count,
        count(*) filter (where is_unsubscribed) as unsubscribed_count
    from {{ ref('fct_messages') }}
    group by channel, purpose, message_state
),

events as (
    select
        message_id,
        array_agg(event) as kinds
    from {{ ref('stg_inspire__message_events') }}
    group by message_id
),

expected as (
    select
        messages.channel,
        messages.purpose,
        messages.message_state,
        count(*) as message_count,
        count(messages.sent_at) as sent_count,
        sum(messages.attempts) as attempt_count,
        count(*) filter (where events.kinds @> array['delivered']) as delivered_count,
        count(*) filter (where events.kinds @> array['opened']) as opened_count,
        count(*) filter (where events.kinds @> array['clicked']) as clicked_count,
        count(*) filter (where events.kinds && array['unsubscribed', 'stopped'])
            as unsubscribed_count
    from {{ ref('stg_inspire__messages') }} as messages
    left join events on messages.message_id = events.message_id
    group by messages.channel, messages.purpose, messages.message_state
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected
    on
        array[fact.channel, fact.purpose, fact.message_state]
        = array[expected.channel, expected.purpose, expected.message_state]
where to_jsonb(fact) is distinct from to_jsonb(expected)
