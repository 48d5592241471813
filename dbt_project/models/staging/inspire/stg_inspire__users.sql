select
    {{ inspire_user_columns() }}
from {{ source('raw_inspire', 'users') }}
where not _deleted
