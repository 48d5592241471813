-- Two lines may give different customers the same id. So a customer is the line's name and its id.
{% set attributes = [
    'customer_id', 'full_name', 'email', 'phone', 'birth_date', 'gender', 'loyalty_tier',
    'is_marketing_consented', 'city', 'region', 'country_code', 'postal_code', 'created_at',
    'is_deleted', 'valid_from', 'valid_to', 'is_current', 'version_number'
] %}

with
versions as (
    {{ union_of_lines('customer_versions', attributes) }}
)

select
    {{ version_key(['versions.line_of_business', 'versions.customer_id'], 'versions.valid_from') }}
        as customer_key,
    -- Who was not compared yet is a person alone.
    coalesce(
        people.person_id,
        {{ surrogate_key(['versions.line_of_business', 'versions.customer_id']) }}
    ) as person_id,
    versions.*
from versions
left join {{ source('identities', 'people') }} as people
    on
        versions.line_of_business = people.line_of_business
        and versions.customer_id = people.customer_id
union all
select
    {{ unknown_key() }} as customer_key,
    null as person_id,
    null as line_of_business,
    null as customer_id,
    'Unknown' as full_name,
    null as email,
    null as phone,
    null as birth_date,
    null as gender,
    null as loyalty_tier,
    null as is_marketing_consented,
    'Unknown' as city,
    'Unknown' as region,
    'Unknown' as country_code,
    null as postal_code,
    null as created_at,
    false as is_deleted,
    '1900-01-01 00:00+00' as valid_from,
    '9999-12-31 00:00+00' as valid_to,
    true as is_current,
    1 as version_number
