select
    id as quote_id,
    text as quote_text,
    author,
    topic,
    mood,
    is_on <> 0 as is_on,
    updated_at at time zone 'UTC' as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire', 'quotes') }}
where not _deleted
