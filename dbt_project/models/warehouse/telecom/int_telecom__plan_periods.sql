{{ config(materialized='view') }}

-- The first period covers all of time before it, as the first version of a dimension does. A period
-- ends where the next one begins, so that an event has one plan.
select
    subscription_id,
    subscriber_id,
    plan_id,
    case
        when row_number() over by_time = 1 then '1900-01-01 00:00+00'
        else started_at
    end as valid_from,
    coalesce(lead(started_at) over by_time, '9999-12-31 00:00+00') as valid_to
from {{ ref('stg_crm__subscriptions') }}
window by_time as (partition by subscriber_id order by started_at, subscription_id)
