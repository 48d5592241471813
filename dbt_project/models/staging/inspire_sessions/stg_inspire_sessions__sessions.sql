-- Ended sessions, too: the source deletes them.
select
    session_id,
    ({{ json_number("document -> 'user_id'", limit="1e18") }})::bigint as user_id,
    to_timestamp({{ json_number("document -> 'started_at'", limit="1e11") }}) as started_at,
    to_timestamp({{ json_number("document -> 'seen_at'", limit="1e11") }}) as seen_at,
    to_timestamp({{ json_number("document -> 'expires_at'", limit="1e11") }}) as expires_at,
    to_timestamp({{ json_number("document -> 'signed_out_at'", limit="1e11") }}) as signed_out_at,
    {{ json_text("document -> 'device'") }} as device,
    {{ json_text("document -> 'time_zone'") }} as time_zone,
    ({{ json_number("document -> 'page_views'", limit="2e9") }})::integer as page_views,
    ({{ json_number("document -> 'workouts_logged'", limit="2e9") }})::integer as workouts_logged,
    {{ json_text("document -> 'how'") }} as how,
    _deleted as is_deleted,
    removed_by,
    _loaded_at,
    _version
from {{ source('raw_inspire_sessions', 'sessions') }}
