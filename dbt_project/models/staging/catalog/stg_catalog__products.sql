with
{{ catalog_product_keys() }}

select
    {{ catalog_product_columns() }}
from {{ source('raw_catalog', 'products') }} as products
{{ catalog_product_joins() }}
where not products._deleted
