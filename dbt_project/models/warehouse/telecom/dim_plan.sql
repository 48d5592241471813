{% set columns = [
    'plan_id', 'plan_code', 'plan_name', 'plan_kind', 'currency', 'monthly_fee_amount',
    'included_minutes', 'included_sms', 'included_mb', 'is_on_sale'
] %}

with versions as (
    {{ scd2_versions(ref('stg_crm__plans_history'), 'plan_id', columns) }}
)

{{ scd2_dimension(
    'versions', 'plan_key', ['plan_id'], columns,
    unknown={'plan_name': 'Unknown', 'plan_kind': 'unknown'},
) }}
