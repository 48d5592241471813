select
    id as invoice_id,
    account_id,
    number as invoice_number,
    currency,
    period_start as period_start_date,
    period_end as period_end_date,
    issued_on as issued_date,
    due_on as due_date,
    net_amount,
    tax_amount,
    total_amount,
    state as invoice_state,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'invoices') }}
where not _deleted
