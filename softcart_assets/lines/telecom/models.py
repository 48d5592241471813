"""The models of the mobile operator."""

from decimal import Decimal

from softcart_assets.lines.model import Classifier, Feature, Limit

MODELS = (
    Classifier(
        "churn",
        "Which subscribers leave in the month after next.",
        features="agg_churn_features_by_subscriber_month",
        subject="subscriber_id",
        target="leaves",
        inputs=(
            # Few each. The second weighs as much as the first.
            Feature("dropped_calls", "Dropped calls in three months: {}"),
            Feature("complaints", "Complaints in three months: {}"),
            Feature("fee_per_call", "Monthly fee by call: {}", "log"),
            Feature("tenure_months", "Months since the activation: {}", "log"),
            Feature("is_prepaid", "Prepaid"),
        ),
        ceiling=Limit(
            Decimal("0.80"),
            "Whether somebody leaves depends on chance, too. With the true probabilities of the "
            "made-up data the AUC is at most 0.80.",
        ),
    ),
)
