select
    ({{ json_number("document -> '_id'", limit="1e18") }})::bigint as user_id,
    {{ json_of_type("document -> 'fitness_goals'", "array") }} as fitness_goals,
    {{ json_text("document -> 'experience'") }} as experience,
    {{ json_of_type("document -> 'rest_days'", "array") }} as rest_days,
    {{ json_of_type("document -> 'equipment'", "array") }} as equipment,
    {{ json_text("document -> 'mood'") }} as mood,
    {{ json_of_type("document #> '{notifications,channels}'", "array") }} as channels,
    {{ json_text("document #> '{notifications,reminder_at}'") }} as reminder_at,
    (
        {{ json_of_type("document #> '{notifications,best_hour}'", "boolean") }}
    )::boolean as is_best_hour,
    {{ json_text("document #> '{notifications,quiet_from}'") }} as quiet_from,
    {{ json_text("document #> '{notifications,quiet_until}'") }} as quiet_until,
    {{ json_timestamp("document -> 'updated_at'") }} as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire_docs', 'preferences') }}
where not _deleted
