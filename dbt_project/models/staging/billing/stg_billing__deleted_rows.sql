-- The other staging views leave deleted rows out. The facts learn of them here.
select
    id as invoice_id,
    null::bigint as invoice_line_id,
    'raw_billing.invoices' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_billing', 'invoices') }}
where _deleted
union all
select
    invoice_id,
    id as invoice_line_id,
    'raw_billing.invoice_lines' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_billing', 'invoice_lines') }}
where _deleted
