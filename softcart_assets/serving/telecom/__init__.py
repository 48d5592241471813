"""The call centre of the mobile operator."""

from pathlib import Path

from softcart_assets.serving.desk import Desk
from softcart_assets.serving.telecom import answer, schemas
from softcart_assets.serving.telecom.api import routes

DESK = Desk(
    title="Call centre",
    subject="crm.subscribers.id",
    tables=answer.TABLES,
    people=answer.PEOPLE,
    answer=answer.ANSWER,
    functions=answer.FUNCTIONS,
    names=answer.NAMES,
    about=answer.ABOUT,
    number=schemas.NUMBER,
    api=routes,
    templates=Path(__file__).with_name("templates"),
    sections={
        name: f"{name}.html"
        for name in ("caller", "totals", "money", "keep", "calls", "complaints", "plan")
    },
)
