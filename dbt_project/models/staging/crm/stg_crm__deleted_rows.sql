-- The other staging views leave deleted rows out. The facts learn of them here.
select
    subscriber_id,
    'raw_crm.subscriptions' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_crm', 'subscriptions') }}
where _deleted
