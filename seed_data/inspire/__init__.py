"""The fitness application: people in MySQL, workouts in MongoDB, sessions in DynamoDB."""

import pyarrow as pa

from seed_data.common.model import Index, LineSeed, Output, TableDesign
from seed_data.common.parameters import Parameters
from softcart_assets.lines.inspire import LINE

DESIGNS = {
    "inspire_docs.activity_logs": TableDesign(
        indexes=(
            Index(("user_id", "fingerprint"), is_unique=True),
            Index(("user_id", "local_date")),
            Index(("user_id", "started_at")),
        )
    ),
    "inspire_sessions.sessions": TableDesign(
        types={"user_id": "N", "started_at": "N"},
        expires_at="expires_at",
        indexes=(Index(("user_id", "started_at"), name="by_user"),),
    ),
}


def generate(parameters: Parameters, output: Output) -> None:
    """Write empty tables."""
    for source, table in LINE.tables():
        names = {"mongodb": ["document"], "dynamodb": ["item"]}.get(
            source.kind, [column.name for column in table.columns]
        )
        output.write(
            f"{source.name}.{table.name}",
            pa.table({name: pa.array([], pa.string()) for name in names}),
        )


SEED = LineSeed(generate, designs=DESIGNS)
