{{ config(materialized='view') }}

{% set own_attributes = [
    'full_name', 'email', 'phone', 'birth_date', 'gender', 'loyalty_tier',
    'is_marketing_consented'
] %}
{% set address_attributes = ['city', 'region', 'country_code', 'postal_code'] %}

with
customers as (
    {{ scd2_versions(ref('stg_shop__customers_history'), 'customer_id', own_attributes) }}
),

-- An address becomes the customer's place when it is marked primary. It stays that until another
-- address is marked. Otherwise a customer would live nowhere while the mark moves between them.
primary_addresses as (
    select *
    from {{ ref('stg_shop__addresses_history') }}
    where is_primary and not is_deleted
),

addresses as (
    {{ scd2_versions('primary_addresses', 'customer_id', address_attributes) }}
),

-- Both histories cover all of time, so their overlaps do too, and each overlap is one version.
versions as (
    select
        customers.customer_id,
        {% for attribute in own_attributes %}
        customers.{{ attribute }},
        {% endfor %}
        {% for attribute in address_attributes %}
        addresses.{{ attribute }},
        {% endfor %}
        -- The shop does not ask for it.
        null::text as time_zone,
        customers.created_at,
        customers.is_deleted,
        greatest(customers.valid_from, addresses.valid_from) as valid_from,
        least(customers.valid_to, addresses.valid_to) as valid_to
    from customers
    left join addresses
        on
            customers.customer_id = addresses.customer_id
            and customers.valid_from < addresses.valid_to
            and customers.valid_to > addresses.valid_from
)

select
    *,
    valid_to = '9999-12-31 00:00+00' as is_current,
    row_number() over (partition by customer_id order by valid_from)::integer as version_number
from versions
