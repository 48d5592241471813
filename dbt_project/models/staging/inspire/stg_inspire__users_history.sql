select
    {{ inspire_user_columns() }},
    _deleted as is_deleted,
    _committed_at,
    _version
from {{ source('raw_inspire', 'users_history') }}
