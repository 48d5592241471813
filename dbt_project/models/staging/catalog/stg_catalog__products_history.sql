select
    {{ catalog_product_columns() }},
    _deleted as is_deleted,
    _committed_at,
    _version
from {{ source('raw_catalog', 'products_history') }}
