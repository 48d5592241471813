select
    id as consent_id,
    user_id,
    channel,
    purpose,
    given_at at time zone 'UTC' as given_at,
    given_by,
    wording,
    withdrawn_at at time zone 'UTC' as withdrawn_at,
    withdrawn_by,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'consents') }}
where not _deleted
