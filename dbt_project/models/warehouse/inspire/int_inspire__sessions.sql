{{ config(materialized='view') }}

-- The source deletes a session that is over. Raw keeps its last form, and the change log tells how
-- it went. Who signs out is noted in the session first.
with sessions as (
    select
        *,
        case
            when not is_deleted then 'open'
            when signed_out_at is not null then 'signed out'
            -- A scan finds that a session is gone, and does not tell how.
            when removed_by = 'expiry' or (removed_by is null and expires_at <= _loaded_at)
                then 'expired'
            else 'replaced'
        end as ended_by
    from {{ ref('stg_inspire_sessions__sessions') }}
)

select
    session_id,
    user_id,
    started_at,
    case ended_by
        when 'signed out' then signed_out_at
        when 'expired' then expires_at
        -- Somebody signed in anew. The old session was not used after that.
        when 'replaced' then seen_at
    end as ended_at,
    ended_by,
    device,
    time_zone,
    page_views,
    workouts_logged,
    _loaded_at,
    'raw_inspire_sessions.sessions' as changed_table,
    _version
from sessions
