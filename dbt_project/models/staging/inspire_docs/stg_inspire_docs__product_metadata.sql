select
    _id as product_id,
    {{ json_of_type("document -> 'activities'", "array") }} as activities,
    {{ json_of_type("document -> 'goals'", "array") }} as goals,
    {{ json_text("document -> 'level'") }} as product_level,
    {{ json_timestamp("document -> 'updated_at'") }} as updated_at,
    _loaded_at,
    _version
from {{ source('raw_inspire_docs', 'product_metadata') }}
where not _deleted
