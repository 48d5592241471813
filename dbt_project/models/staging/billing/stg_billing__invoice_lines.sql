select
    id as invoice_line_id,
    invoice_id,
    account_id,
    subscriber_id,
    kind as invoice_line_kind,
    description as line_description,
    quantity,
    net_amount,
    tax_amount,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_billing', 'invoice_lines') }}
where not _deleted
