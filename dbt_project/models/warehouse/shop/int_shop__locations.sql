{{ config(materialized='view') }}

select
    country_code,
    region,
    city
from {{ ref('stg_shop__addresses_history') }}
union
select
    country_code,
    region,
    city
from {{ ref('stg_shop__stores_history') }}
