{{ config(meta={'dagster': {'ref': {'name': 'dim_customer'}}}) }}

-- As long as the source has an account, and no longer, the user has a current version that is not
-- deleted.
select
    raw.id,
    raw.state,
    raw._deleted,
    dimension.customer_id
from {{ source('raw_inspire', 'users') }} as raw
left join {{ ref('dim_customer') }} as dimension
    on
        raw.id = dimension.customer_id
        and dimension.line_of_business = 'inspire'
        and dimension.is_current
        and not dimension.is_deleted
where (raw._deleted or raw.state = 'deleted') = (dimension.customer_id is not null)
