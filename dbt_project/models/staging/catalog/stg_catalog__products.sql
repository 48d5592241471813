select
    {{ catalog_product_columns() }}
from {{ source('raw_catalog', 'products') }}
where not _deleted
