{{ config(meta={'dagster': {'ref': {'name': 'fct_invoices'}}}) }}

-- Lines, net amounts and taxes of the fact equal the source's, to the cent, per kind of line.
with fact as (
    select
        invoice_line_kind,
        count(*) as line_count,
        count(distinct invoice_id) as invoice_count,
        sum(net_amount) as net_amount,
        sum(tax_amount) as tax_amount
    from {{ ref('fct_invoices') }}
    group by invoice_line_kind
),

expected as (
    select
        invoice_line_kind,
        count(*) as line_count,
        count(distinct invoice_id) as invoice_count,
        sum(net_amount) as net_amount,
        sum(tax_amount) as tax_amount
    from {{ ref('stg_billing__invoice_lines') }}
    group by invoice_line_kind
)

select
    to_jsonb(fact) as fact,
    to_jsonb(expected) as expected
from fact
full join expected on fact.invoice_line_kind = expected.invoice_line_kind
where to_jsonb(fact) is distinct from to_jsonb(expected)
