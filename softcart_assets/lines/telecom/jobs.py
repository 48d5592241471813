"""The Spark jobs of the mobile operator: `spark/jobs/telecom/<name>.py` makes a table."""

from softcart_assets.lines.model import Job

_KNOWN_OF_A_SUBSCRIBER = (
    "signaling.call_records",
    "crm.complaints",
    "crm.subscribers",
    "crm.subscriptions",
    "crm.plans",
)

JOBS = (
    Job(
        "agg_usage_by_plan_region_month",
        inputs=(
            "signaling.call_records",
            "signaling.sms_records",
            "signaling.data_sessions",
            "charging.charges",
            "crm.complaints",
            "billing.disputes",
            "crm.subscriptions",
            "crm.subscribers",
            "crm.plans",
        ),
        key=("currency", "plan_id", "region", "month"),
    ),
    Job(
        "agg_churn_features_by_subscriber_month",
        inputs=_KNOWN_OF_A_SUBSCRIBER,
        key=("subscriber_id", "month"),
        history=_KNOWN_OF_A_SUBSCRIBER,
    ),
)
