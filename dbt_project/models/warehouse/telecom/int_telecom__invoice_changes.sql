{{ config(materialized='view') }}

select
    invoice_id,
    'raw_billing.invoices' as changed_table,
    _version
from {{ ref('stg_billing__invoices') }}
union all
select
    invoice_id,
    'raw_billing.invoice_lines' as changed_table,
    _version
from {{ ref('stg_billing__invoice_lines') }}
union all
select
    invoice_id,
    changed_table,
    _version
from {{ ref('stg_billing__deleted_rows') }}
where changed_table in ('raw_billing.invoices', 'raw_billing.invoice_lines')
