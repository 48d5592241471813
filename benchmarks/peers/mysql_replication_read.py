"""A peer: `mysql-replication` reads rows of the binary log and does nothing with them."""

import json
import os
import time

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

JOB = json.loads(os.environ["JOB"])
mysql = JOB["mysql"]

started, computed = time.monotonic(), sum(os.times()[:4])
log_file, log_position = JOB["start"].rsplit(":", 1)
# With `is_mariadb=True` it ignores the position and reads from the beginning of the log.
log = BinLogStreamReader(
    {name: mysql[name] for name in ("host", "port", "user", "password")},
    server_id=4_242,
    only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    only_schemas=[mysql["database"]],
    only_tables=[JOB["table"]],
    resume_stream=True,
    log_file=log_file,
    log_pos=int(log_position),
)
rows = 0
for event in log:
    rows += len(event.rows)
    # At the end of the log, it would connect again and deliver rows twice.
    if rows >= JOB["rows"]:
        break
print(
    json.dumps(
        {
            "seconds": time.monotonic() - started,
            "cpu_seconds": sum(os.times()[:4]) - computed,
            "rows": rows,
        }
    )
)
