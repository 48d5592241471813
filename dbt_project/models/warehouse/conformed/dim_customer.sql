-- Two lines may give different customers the same id. So a customer is the line's name and its id.
{% set attributes = [
    'customer_id', 'full_name', 'email', 'phone', 'birth_date', 'gender', 'loyalty_tier',
    'is_marketing_consented', 'city', 'region', 'country_code', 'postal_code', 'time_zone',
    'created_at'
] %}
{% set of_versions = ['is_deleted', 'valid_from', 'valid_to', 'is_current', 'version_number'] %}

with
versions as (
    {{ union_of_lines('customer_versions', attributes + of_versions) }}
),

customers as (
    select
        versions.*,
        -- Who was not compared yet is a person alone.
        coalesce(
            people.person_id,
            {{ surrogate_key(['versions.line_of_business', 'versions.customer_id']) }}
        ) as person_id
    from versions
    left join {{ source('identities', 'people') }} as people
        on
            versions.line_of_business = people.line_of_business
            and versions.customer_id = people.customer_id
)

{{ scd2_dimension(
    'customers', 'customer_key', ['line_of_business', 'customer_id'],
    ['person_id', 'line_of_business'] + attributes,
    unknown={
        'full_name': 'Unknown', 'city': 'Unknown', 'region': 'Unknown', 'country_code': 'Unknown',
    },
) }}
