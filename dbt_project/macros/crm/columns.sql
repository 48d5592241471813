{#-
  The select list of each table of the CRM that is kept with its history: the same for its current
  rows and its versions. Times come without a zone and are UTC.
-#}

{% macro crm_customer_columns() %}
    id as customer_id,
    full_name,
    email,
    phone,
    birth_date,
    gender,
    kind as customer_kind,
    street,
    city,
    region,
    postal_code,
    country_code,
    marketing_consent <> 0 as is_marketing_consented,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
{% endmacro %}

{% macro crm_plan_columns() %}
    id as plan_id,
    code as plan_code,
    name as plan_name,
    kind as plan_kind,
    currency,
    monthly_fee as monthly_fee_amount,
    included_minutes,
    included_sms,
    included_mb,
    is_on_sale <> 0 as is_on_sale,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
{% endmacro %}

{% macro crm_subscriber_columns() %}
    id as subscriber_id,
    customer_id,
    account_id,
    msisdn,
    imsi,
    kind as subscriber_kind,
    state as subscriber_state,
    plan_id,
    region,
    time_zone,
    activated_at at time zone 'UTC' as activated_at,
    cancelled_at at time zone 'UTC' as cancelled_at,
    cancel_reason,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at
{% endmacro %}
