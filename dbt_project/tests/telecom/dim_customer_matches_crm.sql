{{ config(meta={'dagster': {'ref': {'name': 'dim_customer'}}}) }}

-- As long as the source has a customer, and no longer, the customer has a current version that is
-- not deleted.
select
    raw.id,
    raw._deleted,
    dimension.customer_id
from {{ source('raw_crm', 'customers') }} as raw
left join {{ ref('dim_customer') }} as dimension
    on
        raw.id = dimension.customer_id
        and dimension.line_of_business = 'telecom'
        and dimension.is_current
        and not dimension.is_deleted
where raw._deleted = (dimension.customer_id is not null)
