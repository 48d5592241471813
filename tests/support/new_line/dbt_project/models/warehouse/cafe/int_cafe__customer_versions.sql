{{ config(materialized='view') }}

-- The source keeps no history, so each guest has one version for all of time.
select
    customer_id,
    full_name,
    null::text as email,
    null::text as phone,
    null::date as birth_date,
    null::text as gender,
    null::text as loyalty_tier,
    null::boolean as is_marketing_consented,
    null::text as city,
    null::text as region,
    null::text as country_code,
    null::text as postal_code,
    null::text as time_zone,
    null::timestamptz as created_at,
    false as is_deleted,
    '1900-01-01 00:00+00'::timestamptz as valid_from,
    '9999-12-31 00:00+00'::timestamptz as valid_to,
    true as is_current,
    1 as version_number
from {{ ref('stg_cafe__customers') }}
