"""The Spark jobs of the mobile operator: `spark/jobs/telecom/<name>.py` makes a table."""

from softcart_assets.lines.model import Job

JOBS = (
    Job(
        "agg_churn_features_by_subscriber_month",
        inputs=(
            "signaling.call_records",
            "crm.complaints",
            "crm.subscribers",
            "crm.subscriptions",
            "crm.plans",
        ),
        key=("subscriber_id", "month"),
        history=True,
    ),
)
