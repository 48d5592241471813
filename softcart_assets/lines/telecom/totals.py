"""What the operational data store keeps of the mobile operator's tables, by source.

Some `Latest` are also ways in: their index finds a caller's rows without reading the table.
"""

from typing import Final

from softcart_assets.lines.model import Latest, RunningTotal, Where

_ALL: Final = ("life", "cycle", "day")

CRM_TOTALS = (
    RunningTotal(
        "open_complaints",
        "Complaints that are still open.",
        table="complaints",
        key="subscriber_id",
        measures={"complaints": "*"},
        where=(Where("state", "=", "open"),),
    ),
)
CRM_LATEST = (
    Latest(
        "subscriber_of_number",
        "The subscriber who has a number. Cancelled ones had it.",
        table="subscribers",
        key="msisdn",
        at="activated_at",
        columns=(),
        where=(Where("state", "<>", "cancelled"),),
    ),
    Latest(
        "newest_of_customer",
        "A customer's newest subscriber.",
        table="subscribers",
        key="customer_id",
        at="activated_at",
        columns=("state",),
    ),
    Latest(
        "newest_of_account",
        "The newest subscriber for whom an account pays.",
        table="subscribers",
        key="account_id",
        at="activated_at",
        columns=("state",),
    ),
    Latest(
        "last_complaint",
        "A subscriber's last complaint.",
        table="complaints",
        key="subscriber_id",
        at="opened_at",
        columns=("category", "state"),
    ),
)

BILLING_TOTALS = (
    RunningTotal(
        "unpaid",
        "Invoices that are not paid yet, tax included.",
        table="invoices",
        key="account_id",
        measures={"invoices": "*", "amount": "total_amount"},
        where=(Where("state", "in", ("open", "overdue")),),
        by="currency",
    ),
)
BILLING_LATEST = (
    Latest(
        "last_invoice",
        "An account's last invoice.",
        table="invoices",
        key="account_id",
        at="issued_on",
        columns=(
            *("number", "period_start", "period_end", "due_on"),
            *("total_amount", "currency", "state"),
        ),
    ),
)

CHARGING_TOTALS = (
    RunningTotal(
        "charged",
        "What was charged, before tax. A correction is a reversal and a new charge.",
        table="charges",
        key="subscriber_id",
        measures={"charges": "*", "amount": "amount"},
        at="event_at",
        by="currency",
        windows=_ALL,
    ),
)
CHARGING_LATEST = (
    Latest(
        "last_top_up",
        "A subscriber's last top-up.",
        table="top_ups",
        key="subscriber_id",
        at="topped_up_at",
        columns=("amount", "currency", "channel"),
    ),
)

SIGNALING_TOTALS = (
    RunningTotal(
        "calls_out",
        "Outgoing calls, answered or not, and their seconds.",
        table="call_records",
        key="subscriber_id",
        measures={"calls": "*", "seconds": "duration_seconds"},
        where=(Where("direction", "=", "out"),),
        at="started_at",
        identity=("event_id", "direction"),
        windows=_ALL,
    ),
    RunningTotal(
        "sms_out",
        "SMS sent, and the messages into which they were cut.",
        table="sms_records",
        key="subscriber_id",
        measures={"sms": "*", "parts": "parts"},
        where=(Where("direction", "=", "out"),),
        at="sent_at",
        identity=("event_id", "direction"),
        windows=_ALL,
    ),
    RunningTotal(
        "data_used",
        "Data sessions and their megabytes, by when they began.",
        table="data_sessions",
        key="subscriber_id",
        measures={"sessions": "*", "megabytes": "megabytes"},
        at="started_at",
        identity=("event_id",),
        windows=_ALL,
    ),
)
SIGNALING_LATEST = (
    Latest(
        "last_call",
        "A subscriber's last call, in or out.",
        table="call_records",
        key="subscriber_id",
        at="started_at",
        columns=("direction", "duration_seconds", "termination"),
    ),
)
