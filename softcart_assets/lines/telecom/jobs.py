"""The Spark jobs of the mobile operator: `spark/jobs/telecom/<name>.py`."""

from softcart_assets.lines.model import Job

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
)
