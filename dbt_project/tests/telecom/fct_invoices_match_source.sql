{{ config(meta={'dagster': {'ref': {'name': 'fct_invoices'}}}) }}

-- Lines, quantities, net amounts and taxes of the fact equal the source's, to the cent, per kind of
-- line and currency of the invoice.
-- An array equals another one where both have null, so rows without a kind meet, too.
with fact as (
    select
        invoice_line_kind,
        currency,
        count(*) as line_count,
        count(distinct invoice_id) as invoice_count,
        sum(quantity) as quantity,
        sum(net_amount) as net_amount,
        sum(tax_amount) as tax_amount
    from {{ ref('fct_invoices') }}
    group by invoice_line_kind, currency
),

expected as (
    select
        lines.invoice_line_kind,
        coalesce(invoices.currency, 'XXX') as currency,
        count(*) as line_count,
        count(distinct lines.invoice_id) as invoice_count,
        sum(lines.quantity) as quantity,
        sum(lines.net_amount) as net_amount,
        sum(lines.tax_amount) as tax_amount
    from {{ ref('stg_billing__invoice_lines') }} as lines
    left join {{ ref('stg_billing__invoices') }} as invoices
        on lines.invoice_id = invoices.invoice_id
    group by lines.invoice_line_kind, coalesce(invoices.currency, 'XXX')
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected
    on
        array[fact.invoice_line_kind, fact.currency]
        = array[expected.invoice_line_kind, expected.currency]
where to_jsonb(fact) is distinct from to_jsonb(expected)
