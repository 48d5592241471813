"""The program of the local servers of DynamoDB and S3: ministack, with what it lacks for us.

It is run by its path, and imports nothing of ours. ministack listens on every address, offers more
than a hundred other services (some of which run programs), keeps the records of streams only until
it ends, and expires items without a record. Here it listens on loopback, has one service alone,
keeps its state in our folder, and records expiries as Amazon does.

DynamoDB writes its state when it is asked to end, and every few minutes while it is written to.
What a kill takes is lost. S3 writes each object at once, so a kill takes nothing.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

_SERVICES = {"dynamodb": "dynamodb,dynamodbstreams", "s3": "s3"}
SAVE_SECONDS = 120
"""The longest time for which writes are in memory only."""
_REAPER = "dynamodb-ttl-reaper"
"""ministack's own name of the thread that expires items."""
_EXPIRY = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}


def main() -> None:
    """Run the server until it is asked to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    # Only a container has reason to listen elsewhere.
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--service", choices=_SERVICES, default="dynamodb")
    # S3 refuses all others. DynamoDB asks for none.
    parser.add_argument("--key", default="")
    asked = parser.parse_args()
    asked.data.mkdir(parents=True, exist_ok=True)
    # ministack reads them when it is imported.
    os.environ |= {
        "BIND_HOST": asked.host,
        "GATEWAY_PORT": str(asked.port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "SERVICES": _SERVICES[asked.service],
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(asked.data / "s3"),
        "AUTH": str(bool(asked.key)),
        "AWS_ACCESS_KEY_ID": asked.key,
        "PERSIST_STATE": "1",
        "STATE_DIR": str(asked.data),
        "MINISTACK_REGION": asked.region,
        "LOG_LEVEL": "WARNING",
        # It writes a file with its process id there.
        "TMPDIR": str(asked.data.parent),
        # No daemon of containers is anything to it.
        "DOCKER_HOST": f"unix://{asked.data.parent}/no-docker.sock",
    }
    sys.argv = sys.argv[:1]
    from ministack import app

    if asked.service == "dynamodb":
        _prepare_dynamodb()
    app.main()


def _prepare_dynamodb() -> None:
    from ministack.core import persistence
    from ministack.services import dynamodb

    complete_state(dynamodb)
    record_expiries(dynamodb)
    threading.Thread(
        target=_save_now_and_then, args=(dynamodb, persistence), name="save", daemon=True
    ).start()


def complete_state(dynamodb: Any) -> None:
    """Have the records of streams kept with the tables.

    Otherwise a reader would go on after a restart, and miss what came before it.
    """
    get_state, load_state = dynamodb.get_state, dynamodb.load_persisted_state

    def get_all() -> dict[str, Any]:
        # Copies: records are added while the state is written.
        records = type(dynamodb._stream_records)()
        for place, some in list(dynamodb._stream_records.all_items()):
            records.set_scoped(*place, list(some))
        trimmed = copy.deepcopy(dynamodb._stream_trimmed)
        return {**get_state(), "stream_records": records, "stream_trimmed": trimmed}

    def load_all(data: Any) -> Any:
        if data:
            dynamodb._stream_records.update(data.get("stream_records", {}))
            dynamodb._stream_trimmed.update(data.get("stream_trimmed", {}))
        return load_state(data)

    dynamodb.get_state, dynamodb.load_persisted_state = get_all, load_all


def record_expiries(dynamodb: Any) -> None:
    """Have the removal of an expired item written into the table's stream."""
    remove = dynamodb._remove_item

    def remove_and_record(table: dict[str, Any], key: Any, sort_key: Any) -> Any:
        is_expiry = threading.current_thread().name == _REAPER
        item = table["items"].get(key, {}).get(sort_key) if is_expiry else None
        removed = remove(table, key, sort_key)
        told = table.get("StreamSpecification") or {}
        if item is not None and told.get("StreamEnabled"):
            view = told.get("StreamViewType", "NEW_AND_OLD_IMAGES")
            record = dynamodb._build_change_record(table, "REMOVE", item, None, view)
            record["userIdentity"] = _EXPIRY
            # arn:aws:dynamodb:<region>:<account>:table/<name>
            *_, region, account, _ = table["TableArn"].split(":", 5)
            name = table["TableName"]
            records = dynamodb._stream_records.get_scoped(account, region, name)
            if records is None:
                dynamodb._stream_records.set_scoped(account, region, name, records := [])
            records.append(record)
        return removed

    dynamodb._remove_item = remove_and_record


def _save_now_and_then(dynamodb: Any, persistence: Any) -> None:
    """Save the state if something was written since the last time."""
    saved = dynamodb._stream_seq_counter
    while True:
        time.sleep(SAVE_SECONDS)
        # It counts the records of all streams, and our tables have one.
        if (written := dynamodb._stream_seq_counter) != saved:
            with dynamodb._lock:
                state = dynamodb.get_state()
            persistence.save_state("dynamodb", state)
            saved = written


if __name__ == "__main__":
    main()
