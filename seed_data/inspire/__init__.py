"""The fitness application: people in MySQL, workouts in MongoDB, sessions in DynamoDB."""

from seed_data.common.model import Index, LineSeed, TableDesign
from seed_data.inspire.generator import generate
from seed_data.inspire.traffic import InspireTraffic

DESIGNS = {
    "inspire_docs.activity_logs": TableDesign(
        indexes=(
            Index(("user_id", "fingerprint"), is_unique=True),
            Index(("user_id", "local_date")),
        )
    ),
    "inspire_sessions.sessions": TableDesign(
        types={"user_id": "N", "started_at": "N"},
        expires_at="expires_at",
        indexes=(Index(("user_id", "started_at"), name="by_user"),),
    ),
}


SEED = LineSeed(generate, InspireTraffic, designs=DESIGNS)
