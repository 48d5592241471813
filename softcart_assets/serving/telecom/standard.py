"""The same answer in the forms of the TM Forum: TMF677, TMF654 and TMF666, all version 4.

Their amounts are JSON numbers. Ours keep all digits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

USAGE = "/tmf-api/usageConsumption/v4/queryUsageConsumption"
BALANCE = "/tmf-api/prepayBalanceManagement/v4/bucket"
ACCOUNT = "/tmf-api/accountManagement/v4/billingAccount"

_KINDS = (
    ("voice", "Outgoing calls", "call_seconds", "seconds"),
    ("sms", "SMS sent", "sms", "messages"),
    ("data", "Data", "megabytes", "megabytes"),
)


def _party(caller: dict[str, Any]) -> list[dict[str, Any]]:
    customer = caller["customer"]
    if not customer:
        return []
    kind = "Organization" if customer["kind"] == "business" else "Individual"
    name = customer["name"] or "unknown"
    return [{"id": str(customer["id"]), "name": name, "role": "customer", "@referredType": kind}]


def _resource(caller: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": caller["subscriber"]["number"], "@referredType": "LogicalResource"}]


def _period(window: dict[str, Any]) -> dict[str, Any]:
    if not window["starts_at"]:
        return {}
    return {"startDateTime": window["starts_at"], "endDateTime": window["ends_at"]}


def usage(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What a caller has used till now: TMF677's QueryUsageConsumption, with a part per window."""
    caller = content["caller"]
    id = str(caller["subscriber"]["id"])
    used = []
    for name, window in caller["totals"].items():
        period = _period(window)
        buckets = []
        for kind, title, member, units in _KINDS:
            value = Decimal(window[member])
            counter = {
                "@type": "ConsumptionSummary",
                "counterType": "used",
                "level": "subscriber",
                "value": {"amount": value, "units": units},
                "valueName": f"{value} {units}",
            }
            buckets.append(
                {
                    "@type": "Bucket",
                    "id": f"{id}-{name}-{kind}",
                    "name": title,
                    "usageType": kind,
                    "isShared": False,
                    "bucketCounter": [counter | ({"consumptionPeriod": period} if period else {})],
                }
            )
        part = {
            "@type": "UsageConsumption",
            "id": f"{id}-{name}",
            "name": name,
            "state": "done",
            "logicalResource": _resource(caller),
            "bucketRefOrValue": buckets,
        }
        part |= {"validPeriod": period} if period else {}
        part |= {"lastUpdate": content["as_of"]} if content["as_of"] else {}
        used.append(part)
    found = {
        "@type": "QueryUsageConsumption",
        "id": id,
        "relatedParty": _party(caller),
        "usageConsumption": used,
    }
    found |= {"queryUsageConsumptionDate": content["as_of"]} if content["as_of"] else {}
    return [found]


def balance(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What is left of a prepaid balance: TMF654's Bucket. Nothing for postpaid."""
    caller = content["caller"]
    left, plan, subscriber = caller["balance"], caller["plan"], caller["subscriber"]
    if not left:
        return []
    amount, currency = Decimal(left["amount"]), left["currency"]
    is_active = subscriber["state"] == "active"
    found = {
        "@type": "Bucket",
        "id": str(subscriber["id"]),
        "href": f"{BALANCE}/{subscriber['id']}",
        "name": "Prepaid balance",
        "usageType": "monetary",
        "status": "active" if is_active else "suspended",
        "isShared": False,
        "remainingValue": {"amount": amount, "units": currency},
        "remainingValueName": f"{amount} {currency}",
        "logicalResource": _resource(caller),
        "relatedParty": _party(caller),
    }
    if plan:
        reference = {"id": str(plan["id"]), "name": plan["name"], "@referredType": "Product"}
        found["product"] = [reference]
    return [found]


def account(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What is left of the limit and not paid: TMF666's BillingAccount. Nothing for prepaid."""
    caller = content["caller"]
    kept = caller["account"]
    if not kept:
        return []
    cycle = _period(caller["totals"]["cycle"])

    def money(value: str) -> dict[str, Any]:
        return {"unit": kept["currency"], "value": Decimal(value)}

    kinds = (("leftOfLimit", "left"), ("usedInCycle", "used"), ("unpaid", "unpaid"))
    balances = [
        {"@type": "AccountBalance", "balanceType": kind, "amount": money(kept[member])}
        | {"validFor": cycle}
        for kind, member in kinds
        if kept[member] is not None
    ]
    found: dict[str, Any] = {
        "@type": "BillingAccount",
        "id": str(kept["id"]),
        "href": f"{ACCOUNT}/{kept['id']}",
        "name": f"Account {kept['id']}",
        "state": kept["state"],
        "paymentStatus": "unpaid" if kept["unpaid_invoices"] else "paid",
        "accountBalance": balances,
        "relatedParty": _party(caller),
    }
    if kept["limit"] is not None:
        found["creditLimit"] = money(kept["limit"])
    return [found]
