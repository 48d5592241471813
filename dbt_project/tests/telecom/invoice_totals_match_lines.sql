{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'fct_invoices'}}}) }}

-- The total of each invoice at the source is the sum of its lines.
with lines as (
    select
        invoice_id,
        sum(net_amount + tax_amount) as total_amount
    from {{ ref('fct_invoices') }}
    group by invoice_id
)

select
    invoices.invoice_id,
    invoices.total_amount,
    lines.total_amount as lines_amount
from {{ ref('stg_billing__invoices') }} as invoices
left join lines on invoices.invoice_id = lines.invoice_id
where invoices.total_amount is distinct from coalesce(lines.total_amount, 0)
