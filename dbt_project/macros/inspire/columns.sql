{#- The select list of the people, current rows and versions. Times come without a zone and are UTC. -#}

{% macro inspire_user_columns() %}
    id as user_id,
    email,
    email_key,
    full_name,
    phone,
    birth_date,
    region,
    country_code,
    time_zone,
    email_confirmed_at at time zone 'UTC' as email_confirmed_at,
    phone_confirmed_at at time zone 'UTC' as phone_confirmed_at,
    state as user_state,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
{% endmacro %}
