{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='invoice_line_id',
    indexes=[
        {'columns': ['invoice_line_id']},
        {'columns': ['invoice_line_key'], 'unique': true},
    ],
    post_hook="delete from {{ this }} as fact
        using ({{ changed_since_last_run(ref('stg_billing__deleted_rows'), 'seen_before') }}) as gone
        where gone.changed_table = 'raw_billing.invoice_lines'
        and gone.invoice_line_id = fact.invoice_line_id
        and not exists (
            select 1 from {{ ref('stg_billing__invoice_lines') }} as line
            where line.invoice_line_id = fact.invoice_line_id
        )",
) }}

{#- Rows are replaced by line, because a line may move to another invoice. -#}

{# dbt parses the model as one that is not incremental, and must learn of these. #}
{% if not execute %}
{% do [ref('int_telecom__invoice_changes'), ref('int_telecom__dimension_changes')] %}
{% endif %}

with
{% if is_incremental() %}
dimension_changes as ({{ changed_since_last_run(ref('int_telecom__dimension_changes')) }}),

touched_invoices as (
    select invoice_id
    from ({{ changed_since_last_run(ref('int_telecom__invoice_changes')) }}) as invoice_changes
    union
    {{ telecom_rows_with_stale_key(['invoice_id'], 'period_started_at') }}
),
{% endif %}

touched_lines as {{
    only_touched(ref('stg_billing__invoice_lines'), 'invoice_id', 'touched_invoices')
}},

invoices as {{ only_touched(ref('stg_billing__invoices'), 'invoice_id', 'touched_invoices') }},

-- A line may arrive before its invoice. Its change stands for the day then.
lines as (
    select
        touched_lines.*,
        invoices.invoice_number,
        invoices.period_start_date,
        invoices.period_end_date,
        invoices.issued_date,
        invoices.due_date,
        coalesce(invoices.invoice_state, 'unknown') as invoice_state,
        coalesce(invoices.currency, 'XXX') as currency,
        coalesce(
            invoices.period_start_date::timestamp at time zone 'UTC', touched_lines.updated_at
        ) as period_started_at
    from touched_lines
    left join invoices on touched_lines.invoice_id = invoices.invoice_id
)

select
    {{ surrogate_key(['lines.invoice_line_id']) }} as invoice_line_key,
    lines.invoice_line_id,
    lines.invoice_id,
    lines.invoice_number,
    coalesce(subscriber.subscriber_key, {{ unknown_key() }}) as subscriber_key,
    coalesce(customer.customer_key, {{ unknown_key() }}) as customer_key,
    coalesce(plan.plan_key, {{ unknown_key() }}) as plan_key,
    {{
        date_key("(lines.issued_date::timestamp at time zone 'UTC')", 'lines._loaded_at')
    }} as issued_date,
    lines.period_started_at,
    lines.period_start_date,
    lines.period_end_date,
    lines.due_date,
    lines.invoice_state,
    lines.invoice_line_kind,
    lines.quantity,
    lines.net_amount,
    lines.tax_amount,
    lines.currency,
    lines.account_id,
    lines.subscriber_id,
    subscriber.customer_id,
    period.subscription_id,
    coalesce(period.plan_id, subscriber.plan_id) as plan_id
from lines
{{ join_telecom_dimensions('lines', 'period_started_at') }}
