-- The other staging views leave deleted rows out. The facts learn of them here.
select
    id as subscription_id,
    subscriber_id,
    'raw_crm.subscriptions' as changed_table,
    _loaded_at,
    _version
from {{ source('raw_crm', 'subscriptions') }}
where _deleted
