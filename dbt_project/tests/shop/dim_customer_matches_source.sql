{{ config(meta={'dagster': {'ref': {'name': 'dim_customer'}}}) }}

-- A customer of the shop has a current version that is not deleted exactly as long as the source has the customer.
select
    source.id,
    source._deleted,
    dimension.customer_id
from {{ source('raw_shop', 'customers') }} as source
left join {{ ref('dim_customer') }} as dimension
    on source.id = dimension.customer_id and dimension.is_current and not dimension.is_deleted
where source._deleted = (dimension.customer_id is not null)
