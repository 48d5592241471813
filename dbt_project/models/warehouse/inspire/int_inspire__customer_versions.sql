{{ config(materialized='view') }}

{% set attributes = [
    'full_name', 'email', 'phone', 'birth_date', 'region', 'country_code', 'time_zone'
] %}

with versions as (
    {{ scd2_versions(
        ref('stg_inspire__users_history'), 'user_id', attributes + ['user_state']
    ) }}
)

select
    user_id as customer_id,
    {% for attribute in attributes %}
    {{ attribute }},
    {% endfor %}
    null::text as gender,
    -- There is no loyalty programme, and consents are given by channel and purpose.
    null::text as loyalty_tier,
    null::boolean as is_marketing_consented,
    null::text as city,
    null::text as postal_code,
    created_at,
    -- The row stays as long as something refers to it.
    is_deleted or user_state = 'deleted' as is_deleted,
    valid_from,
    valid_to,
    is_current,
    version_number
from versions
