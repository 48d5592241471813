"""The running totals of the mobile operator by Spark's Structured Streaming.

    PYTHONPATH=. spark-submit spark/jobs/telecom/totals.py               # what is new, then the end
    PYTHONPATH=. spark-submit spark/jobs/telecom/totals.py --every 5     # goes on

See `spark.totals`.
"""

import sys

from softcart_assets.lines.telecom import LINE
from spark.totals import main

if __name__ == "__main__":
    sys.exit(main(LINE.sources))
