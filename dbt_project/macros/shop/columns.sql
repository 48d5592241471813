{#-
  The select list of each shop table that is kept with its history: the same for its current rows
  and its versions. Times come without a zone and are UTC.
-#}

{% macro shop_customer_columns() %}
    id::bigint as customer_id,
    email,
    full_name,
    phone,
    birth_date,
    gender,
    loyalty_tier,
    marketing_consent <> 0 as is_marketing_consented,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
{% endmacro %}

{% macro shop_address_columns() %}
    id::bigint as address_id,
    customer_id::bigint as customer_id,
    kind as address_kind,
    line1,
    line2,
    city,
    region,
    postal_code,
    country_code,
    latitude,
    longitude,
    is_primary <> 0 as is_primary,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
{% endmacro %}

{% macro shop_store_columns() %}
    id::bigint as store_id,
    code as store_code,
    name as store_name,
    channel,
    country_code,
    city,
    region,
    opened_on as opened_date,
    closed_on as closed_date,
    floor_area_m2,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
{% endmacro %}
