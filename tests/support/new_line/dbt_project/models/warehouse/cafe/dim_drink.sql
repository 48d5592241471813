select
    {{ surrogate_key(['drink_id']) }} as drink_key,
    drink_id,
    drink_name
from {{ ref('stg_cafe_menu__drinks') }}
union all
select {{ unknown_key() }} as drink_key, null as drink_id, 'Unknown' as drink_name
