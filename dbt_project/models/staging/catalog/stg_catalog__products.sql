with
{{ catalog_product_keys() }}

select
    {{ catalog_product_columns() }},
    {{ json_text("document #> '{cost,currency}'") }} as cost_currency
from {{ source('raw_catalog', 'products') }} as products
{{ catalog_product_joins() }}
where not products._deleted
