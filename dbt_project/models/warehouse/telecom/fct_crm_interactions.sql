-- Not incremental: a complaint may move to another interaction, and contacts are few.
with complaints as (
    select
        interaction_id,
        count(*)::integer as complaint_count,
        (count(*) filter (where complaint_state = 'open'))::integer as open_complaint_count,
        (count(*) filter (where complaint_category = 'network'))::integer
            as network_complaint_count
    from {{ ref('stg_crm__complaints') }}
    group by interaction_id
)

select
    {{ surrogate_key(['interactions.interaction_id']) }} as interaction_key,
    interactions.interaction_id,
    coalesce(subscriber.subscriber_key, {{ unknown_key() }}) as subscriber_key,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(plan.plan_key, {{ unknown_key() }}) as plan_key,
    coalesce(agent.agent_key, {{ unknown_key() }}) as agent_key,
    {{ date_key('interactions.started_at', 'interactions._loaded_at') }} as interaction_date,
    {{ time_of_day_key('interactions.started_at') }} as time_of_day_key,
    interactions.started_at,
    interactions.channel,
    interactions.topic,
    interactions.outcome,
    interactions.duration_seconds,
    coalesce(complaints.complaint_count, 0) as complaint_count,
    coalesce(complaints.open_complaint_count, 0) as open_complaint_count,
    coalesce(complaints.network_complaint_count, 0) as network_complaint_count,
    interactions.customer_id,
    interactions.subscriber_id,
    interactions.agent_id
from {{ ref('stg_crm__interactions') }} as interactions
left join complaints on interactions.interaction_id = complaints.interaction_id
{{ join_telecom_dimensions('interactions', 'started_at', 'interactions.customer_id') }}
left join {{ ref('dim_agent') }} as agent on interactions.agent_id = agent.agent_id
