"""What the local DynamoDB server's program adds to ministack, without a server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("ministack")

SCRIPT = """
import json, threading
from ministack.core import persistence
from ministack.services import dynamodb
from softcart_assets.stack import ministack_server
ministack_server.complete_state(dynamodb)
ministack_server.record_expiries(dynamodb)
def item(name): return {name: {"-": {"id": {"S": name}}}}
table = {
    "TableArn": "arn:aws:dynamodb:eu-central-1:000000000000:table/x.sessions",
    "TableName": "x.sessions", "pk_name": "id", "sk_name": None,
    "items": item("expired") | item("deleted"),
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    "LatestStreamArn": "arn",
}
dynamodb._remove_item(table, "deleted", "-")  # its record is written elsewhere
reaper = threading.Thread(
    target=dynamodb._remove_item, args=(table, "expired", "-"), name="dynamodb-ttl-reaper"
)
reaper.start()
reaper.join()
written = json.dumps(dynamodb.get_state(), default=persistence._json_default)
dynamodb._stream_records._data.clear()
dynamodb.load_persisted_state(json.loads(written, object_hook=persistence._json_object_hook))
print(json.dumps([[*place, records] for place, records in dynamodb._stream_records.all_items()]))
"""


def test_an_expiry_is_recorded_and_records_are_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    [[_, region, table, [record]]] = json.loads(done.stdout.splitlines()[-1])
    assert (region, table) == ("eu-central-1", "x.sessions")
    assert record["eventName"] == "REMOVE"
    assert record["dynamodb"]["Keys"] == {"id": {"S": "expired"}}
    # As the client's description of the service spells the names.
    assert record["userIdentity"] == {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
