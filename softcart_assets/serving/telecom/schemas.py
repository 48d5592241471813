"""The answers of the API, for its description. The database writes what they describe."""

from __future__ import annotations

from typing import Any

from apiflask import Schema
from apiflask.fields import URL, Boolean, Date, DateTime, Decimal, Integer, List, Nested, String
from apiflask.validators import OneOf, Regexp

from softcart_assets.serving.service import Freshness

NUMBER = r"[1-9][0-9]{5,14}"
"""A phone number, E.164 without `+`."""


def _text(what: str, **more: Any) -> String:
    return String(metadata={"description": what, **more})


def _amount(what: str) -> String:
    return String(metadata={"description": what, "pattern": r"^-?[0-9]+(\.[0-9]+)?$"})


def _moment(what: str) -> DateTime:
    return DateTime(metadata={"description": what}, allow_none=True)


def _number_parameter(name: str | None = None) -> String:
    return String(
        required=True,
        data_key=name,
        validate=Regexp(f"^{NUMBER}$", error="Not a phone number: E.164 without `+`."),
        metadata={"description": "The number, E.164 without `+`."},
    )


class OfNumber(Freshness):
    """Whom our own resource is about."""

    msisdn = _number_parameter()


class OfResource(Freshness):
    """Whom usage and balances are about."""

    msisdn = _number_parameter("logicalResource.id")


class OfContact(Freshness):
    """Whose account it is."""

    msisdn = _number_parameter("contact.contactMedium.characteristic.phoneNumber")


class Amount(Schema):
    """An amount of money."""

    amount = _amount("Exact decimal.")
    currency = _text("ISO 4217.")


class SourceStands(Schema):
    """How far a source is in."""

    source = String()
    state = String(
        validate=OneOf(["live", "read", "stale", "missing", "stopped"]),
        metadata={"description": "The worst of its tables that are read."},
    )
    position = String(
        allow_none=True, metadata={"description": "None if its tables stand at different places."}
    )
    complete_at = _moment("What was committed there until then is in. None: nobody knows.")


class Window(Schema):
    """Totals over a window of time. All time has no limits."""

    starts_at = _moment("First instant, UTC.")
    ends_at = _moment("First instant after it, UTC.")
    calls = Integer(metadata={"description": "Outgoing calls."})
    call_seconds = Integer()
    sms = Integer(metadata={"description": "SMS sent."})
    sms_parts = Integer()
    data_sessions = Integer()
    megabytes = _amount("Data sent and received.")
    charged = List(Nested(Amount), metadata={"description": "Charges before tax, by currency."})


class Totals(Schema):
    """The subscriber's day, the bill cycle, and all time."""

    day = Nested(Window)
    cycle = Nested(Window)
    life = Nested(Window)


class Subscriber(Schema):
    """The subscriber who has the number."""

    id = Integer()
    number = String()
    kind = String(validate=OneOf(["prepaid", "postpaid"]))
    state = String()
    region = String(allow_none=True)
    time_zone = String()
    activated_at = _moment("")
    cancelled_at = _moment("")


class Customer(Schema):
    """The customer who has the contract."""

    id = Integer()
    name = String(allow_none=True)
    kind = String(allow_none=True)
    city = String(allow_none=True)
    country_code = String(allow_none=True)
    email = String(allow_none=True)
    since = _moment("")


class Plan(Schema):
    """The price plan."""

    id = Integer()
    code = String()
    name = String()
    monthly_fee = _amount("Before tax.")
    currency = String()
    included_minutes = Integer(allow_none=True)
    included_sms = Integer(allow_none=True)
    included_megabytes = String(allow_none=True)


class Account(Schema):
    """A postpaid account: its limit, and what is left of it in this bill cycle."""

    id = Integer()
    state = String()
    currency = String()
    cycle_day = Integer()
    time_zone = String()
    limit = String(allow_none=True, metadata={"description": "Exact decimal; null: no limit."})
    used = _amount("Charges of all its subscribers in this cycle, before tax.")
    left = String(allow_none=True, metadata={"description": "Exact decimal; null: no limit."})
    unpaid = _amount("Invoices that are not paid, tax included.")
    unpaid_invoices = Integer()


class TopUp(Amount):
    """A top-up."""

    at = _moment("")
    channel = String(allow_none=True)


class Balance(Amount):
    """A prepaid balance."""

    last_top_up = Nested(TopUp, allow_none=True)


class Bill(Amount):
    """The last invoice."""

    number = String()
    period_start = Date()
    period_end = Date(metadata={"description": "First day after the period."})
    issued_on = Date()
    due_on = Date(allow_none=True)
    state = String()


class Complaint(Schema):
    """A complaint."""

    opened_at = _moment("")
    category = String()
    state = String()
    closed_at = _moment("")


class Call(Schema):
    """A call, in or out."""

    at = _moment("")
    direction = String(validate=OneOf(["out", "in"]))
    other = String(allow_none=True, metadata={"description": "The last digits at the other end."})
    seconds = Integer(allow_none=True)
    termination = String(allow_none=True)


class Churn(Schema):
    """How probable it is that the subscriber leaves, and why. A model says so, once a month."""

    month = Date(metadata={"description": "First day of the month that it is about."})
    probability_pct = _amount("Probability that the subscriber leaves in that month, per cent.")
    decile = Integer(
        metadata={"description": "1: among the tenth of the subscribers most likely to leave."}
    )
    reasons = List(String(), metadata={"description": "What raises it, the weightiest first."})
    cut_off_date = Date(metadata={"description": "The day before which all of this was known."})
    model_version = Integer()


class Caller(Schema):
    """Everything about a caller."""

    subscriber = Nested(Subscriber)
    customer = Nested(Customer, allow_none=True)
    plan = Nested(Plan, allow_none=True)
    totals = Nested(Totals)
    account = Nested(Account, allow_none=True)
    balance = Nested(Balance, allow_none=True)
    bill = Nested(Bill, allow_none=True)
    open_complaints = Integer()
    complaints = List(Nested(Complaint))
    last_calls = List(Nested(Call))
    churn = Nested(Churn, allow_none=True)


class CallerAnswer(Schema):
    """A caller, as of one moment of all sources."""

    as_of = _moment("Everything that was committed at the sources until then is in the answer.")
    age_ms = Integer(allow_none=True, metadata={"description": "How long ago that was."})
    sources = List(Nested(SourceStands))
    caller = Nested(Caller)


# The standard resources have many more members. These are the ones that we fill.


class _Typed(Schema):
    type = String(data_key="@type")


class Reference(Schema):
    """A reference to something of another resource."""

    id = String()
    name = String()
    role = String()
    referred_type = String(data_key="@referredType")


class Period(Schema):
    """A period of time."""

    start = DateTime(data_key="startDateTime")
    end = DateTime(data_key="endDateTime")


class Quantity(Schema):
    """A quantity: a JSON number with all digits."""

    amount = Decimal()
    units = String()


class Counter(_Typed):
    """What was used of a bucket in a period."""

    counter_type = String(data_key="counterType")
    level = String()
    value_name = String(data_key="valueName")
    value = Nested(Quantity)
    period = Nested(Period, data_key="consumptionPeriod")


class Bucket(_Typed):
    """A bucket: usage of one kind, or a prepaid balance."""

    id = String()
    href = String()
    name = String()
    usage_type = String(data_key="usageType")
    status = String()
    is_shared = Boolean(data_key="isShared")
    remaining = Nested(Quantity, data_key="remainingValue")
    remaining_name = String(data_key="remainingValueName")
    counters = List(Nested(Counter), data_key="bucketCounter")
    resources = List(Nested(Reference), data_key="logicalResource")
    products = List(Nested(Reference), data_key="product")
    parties = List(Nested(Reference), data_key="relatedParty")


class UsageConsumption(_Typed):
    """The usage of one window of time."""

    id = String()
    name = String()
    state = String()
    last_update = DateTime(data_key="lastUpdate")
    period = Nested(Period, data_key="validPeriod")
    buckets = List(Nested(Bucket), data_key="bucketRefOrValue")
    resources = List(Nested(Reference), data_key="logicalResource")


class QueryUsageConsumption(_Typed):
    """TMF677, version 4."""

    id = String()
    href = URL(relative=True)
    date = DateTime(data_key="queryUsageConsumptionDate")
    parties = List(Nested(Reference), data_key="relatedParty")
    usage = List(Nested(UsageConsumption), data_key="usageConsumption")


class Money(Schema):
    """Money: a JSON number with all digits."""

    unit = String()
    value = Decimal()


class AccountBalance(_Typed):
    """One balance of an account."""

    balance_type = String(data_key="balanceType")
    amount = Nested(Money)
    period = Nested(Period, data_key="validFor")


class BillingAccount(_Typed):
    """TMF666, version 4."""

    id = String()
    href = String()
    name = String()
    state = String()
    payment_status = String(data_key="paymentStatus")
    last_modified = DateTime(data_key="lastModified")
    credit_limit = Nested(Money, data_key="creditLimit")
    balances = List(Nested(AccountBalance), data_key="accountBalance")
    parties = List(Nested(Reference), data_key="relatedParty")
