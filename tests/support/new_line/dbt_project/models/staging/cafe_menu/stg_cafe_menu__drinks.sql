select
    _id as drink_id,
    {{ json_text("document -> 'name'") }} as drink_name,
    _loaded_at
from {{ source('raw_cafe_menu', 'drinks') }}
where not _deleted
