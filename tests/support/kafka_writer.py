"""The program that a test kills: it writes a source to Kafka until it is stopped.

`python -m tests.support.kafka_writer` reads its source, database and Kafka from standard input. For
each further line there it starts a writer, says its process, and waits until it is gone. So the
program's own start counts once, however many writers are killed.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback

from softcart_assets.ingestion.capture.to_kafka import to_kafka


def main() -> None:
    """Start writers until the input ends."""
    source, database, kafka = pickle.load(sys.stdin.buffer)
    while sys.stdin.buffer.readline():
        # Before any client has made a thread.
        process = os.fork()
        if not process:
            try:
                to_kafka(
                    source,
                    database,
                    kafka,
                    partitions=2,
                    on_report=lambda status: print("at", status.position, flush=True),
                )
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        print(process, flush=True)
        os.waitpid(process, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
