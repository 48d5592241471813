select
    operator as operator_code,
    record_id as roaming_record_id,
    subscriber_id,
    msisdn,
    kind as roaming_kind,
    started_at,
    duration_seconds,
    quantity,
    amount as cost_amount,
    currency,
    recorded_at,
    _file as file_number,
    _line as line_number,
    _loaded_at,
    _version
from {{ source('raw_roaming', 'records') }}
where not _deleted
