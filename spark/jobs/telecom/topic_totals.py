"""The running totals of the mobile operator by Spark, from Debezium's topics.

    PYTHONPATH=. python spark/jobs/telecom/topic_totals.py               # what is new, then the end
    PYTHONPATH=. python spark/jobs/telecom/topic_totals.py --every 1     # goes on

See `spark.topics`.
"""

import sys

from softcart_assets.lines.telecom import LINE
from spark.topics import main

if __name__ == "__main__":
    sys.exit(main(LINE.sources))
