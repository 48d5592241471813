with
{{ catalog_product_keys() }}

select
    {{ catalog_product_columns() }},
    products._id as document_id,
    products._deleted as is_deleted,
    products._committed_at,
    products._version,
    {{ json_text("document #> '{cost,currency}'") }} as cost_currency
from {{ source('raw_catalog', 'products_history') }} as products
{{ catalog_product_joins() }}
