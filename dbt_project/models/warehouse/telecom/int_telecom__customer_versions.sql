{{ config(materialized='view') }}

{% set attributes = [
    'full_name', 'email', 'phone', 'birth_date', 'gender', 'is_marketing_consented', 'city',
    'region', 'country_code', 'postal_code'
] %}

with versions as (
    {{ scd2_versions(ref('stg_crm__customers_history'), 'customer_id', attributes) }}
)

select
    customer_id,
    {% for attribute in attributes %}
    {{ attribute }},
    {% endfor %}
    -- There is no loyalty programme. Zones are those of subscribers.
    null::text as loyalty_tier,
    null::text as time_zone,
    created_at,
    is_deleted,
    valid_from,
    valid_to,
    is_current,
    version_number
from versions
