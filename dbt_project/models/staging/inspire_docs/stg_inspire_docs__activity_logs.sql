select
    _id as workout_id,
    ({{ json_number("document -> 'user_id'", limit="1e18") }})::bigint as user_id,
    {{ json_text("document -> 'activity'") }} as activity,
    {{ json_timestamp("document -> 'started_at'") }} as started_at,
    {{ json_text("document -> 'time_zone'") }} as time_zone,
    case
        when
            (document ->> 'local_date') ~ '^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$'
            -- The 30th of February would be an error.
            then
                (left(document ->> 'local_date', 7) || '-01')::date
                + right(document ->> 'local_date', 2)::integer
                - 1
    end as local_date,
    ({{ json_number("document -> 'duration_seconds'", limit="2e9") }})::integer as duration_seconds,
    ({{ json_number("document -> 'effort'", limit="100") }})::integer as effort,
    {{ json_text("document -> 'origin'") }} as origin,
    ({{ json_number("document -> 'distance_m'", limit="1e10") }})::numeric(12, 2) as distance_m,
    ({{ json_number("document -> 'ascent_m'", limit="1e10") }})::numeric(12, 2) as ascent_m,
    ({{ json_number("document -> 'average_watts'", limit="1e10") }})::numeric(12, 2)
        as average_watts,
    ({{ json_number("document -> 'pool_m'", limit="1e10") }})::numeric(12, 2) as pool_m,
    {{ json_text("document -> 'stroke'") }} as stroke,
    {{ json_of_type("document -> 'sets'", "array") }} as sets,
    {{ json_text("document -> 'style'") }} as yoga_style,
    {{ json_timestamp("document -> 'created_at'") }} as created_at,
    {{ json_timestamp("document -> 'updated_at'") }} as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire_docs', 'activity_logs') }}
where not _deleted
