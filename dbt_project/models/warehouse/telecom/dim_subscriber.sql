{% set columns = [
    'subscriber_id', 'customer_id', 'account_id', 'msisdn', 'subscriber_kind', 'subscriber_state',
    'plan_id', 'region', 'time_zone', 'activated_at', 'cancelled_at', 'cancel_reason'
] %}

with versions as (
    {{ scd2_versions(ref('stg_crm__subscribers_history'), 'subscriber_id', columns) }}
)

{{ scd2_dimension(
    'versions', 'subscriber_key', ['subscriber_id'], columns,
    unknown={'subscriber_kind': 'unknown', 'subscriber_state': 'unknown', 'region': 'Unknown'},
) }}
