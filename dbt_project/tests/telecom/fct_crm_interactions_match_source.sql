{{ config(meta={'dagster': {'ref': {'name': 'fct_crm_interactions'}}}) }}

-- Interactions, seconds and complaints of the fact equal the source's. A complaint without its
-- interaction is in no row.
with fact as (
    select
        count(*) as interaction_count,
        coalesce(sum(duration_seconds), 0) as duration_seconds,
        coalesce(sum(complaint_count), 0) as complaint_count,
        coalesce(sum(open_complaint_count), 0) as open_complaint_count
    from {{ ref('fct_crm_interactions') }}
),

complaints as (
    select
        count(*) as complaint_count,
        count(*) filter (where complaint_state = 'open') as open_complaint_count
    from {{ ref('stg_crm__complaints') }}
    where interaction_id in (
        select interactions.interaction_id
        from {{ ref('stg_crm__interactions') }} as interactions
    )
),

expected as (
    select
        count(*) as interaction_count,
        coalesce(sum(interactions.duration_seconds), 0) as duration_seconds,
        (select complaints.complaint_count from complaints) as complaint_count,
        (select complaints.open_complaint_count from complaints) as open_complaint_count
    from {{ ref('stg_crm__interactions') }} as interactions
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
cross join expected
where to_jsonb(fact) is distinct from to_jsonb(expected)
