select
    id as message_id,
    message_key,
    user_id,
    address,
    channel,
    purpose,
    template,
    state as message_state,
    reason,
    attempts,
    due_at at time zone 'UTC' as due_at,
    expires_at at time zone 'UTC' as expires_at,
    provider_id,
    sent_at at time zone 'UTC' as sent_at,
    created_at at time zone 'UTC' as created_at,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'messages') }}
where not _deleted
