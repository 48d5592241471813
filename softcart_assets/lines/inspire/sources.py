"""The source systems of the fitness application: people and messages in MySQL, workouts and
settings in MongoDB, sessions in DynamoDB.

MySQL has further tables: passwords, second factors, links, tokens of applications. They are not
declared, so no copy of them ever leaves it.
"""

from typing import Final

from softcart_assets.lines.inspire.totals import ACTIVE_DAYS
from softcart_assets.lines.model import NONE, PII, SENSITIVE, Column, Source, Table

_UPDATED = Column("updated_at", NONE, "When the row last changed, UTC.")
_DOCUMENT_UPDATED = Column("updated_at", NONE, "When the document last changed.")

INSPIRE = Source(
    "inspire",
    "mysql",
    "The people of the fitness application, their goals, and the messages to them.",
    tables=(
        Table(
            "users",
            "One row per person with an account, deleted ones included.",
            key=("id",),
            strategy="cdc",
            history=True,
            columns=(
                Column("id", PII, "Key of the person."),
                Column("email", PII, "E-mail address, as the person typed it."),
                Column("email_key", PII, "E-mail address in small letters, unique."),
                Column("full_name", PII, "Name."),
                Column("phone", PII, "Phone number, E.164 without `+`; may be missing."),
                Column("birth_date", PII, "Date of birth; may be missing."),
                Column("region", NONE, "Region where the person lives."),
                Column("country_code", NONE, "Country, ISO 3166-1 alpha-2."),
                Column("time_zone", NONE, "Time zone of the person's local days, IANA."),
                Column("email_confirmed_at", NONE, "When the address was confirmed, UTC."),
                Column("phone_confirmed_at", NONE, "When the number was confirmed, UTC."),
                Column("state", NONE, "`active` or `deleted`."),
                Column("created_at", NONE, "When the person registered, UTC."),
                _UPDATED,
            ),
        ),
        Table(
            "consents",
            "One row per consent to messages. A consent that is given again is another row.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the consent."),
                Column("user_id", PII, "Person."),
                Column("channel", NONE, "`email` or `sms`."),
                Column("purpose", NONE, "`reminder`, `quote` or `news`."),
                Column("given_at", NONE, "When it was given, UTC."),
                Column("given_by", NONE, "`page`, `api` or `seed`."),
                Column("wording", NONE, "The text that the person agreed to."),
                Column("withdrawn_at", NONE, "When it was withdrawn, UTC; null while in force."),
                Column(
                    "withdrawn_by",
                    NONE,
                    "`page`, `link`, `stop`, `bounce`, `complaint`; or null.",
                ),
                _UPDATED,
            ),
        ),
        Table(
            "quotes",
            "One row per quote for a day.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the quote."),
                Column("text", NONE, "The quote."),
                Column("author", NONE, "Who wrote it."),
                Column("topic", NONE, "`start`, `persist`, `rest`, `strength` or `joy`."),
                Column("mood", NONE, "`calm`, `firm` or `bright`."),
                Column("is_on", NONE, "1 while it may be chosen."),
                _UPDATED,
            ),
        ),
        Table(
            "goals",
            "One row per goal that people can choose.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the goal."),
                Column("code", NONE, "Short code, unique."),
                Column("name", NONE, "Name."),
                Column("activity", NONE, "Its main activity; null: any."),
                Column("unit", NONE, "`minutes`, `metres` or `workouts`."),
                _UPDATED,
            ),
        ),
        Table(
            "user_goals",
            "One row per period in which a person has a goal. At most one of each goal is open.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column(
                    "id",
                    NONE,
                    "Key of the period. The main goal is the open one with the smallest.",
                ),
                Column("user_id", PII, "Person."),
                Column("goal_id", NONE, "Goal."),
                Column("amount", NONE, "How much a week, in the goal's unit."),
                Column("started_on", NONE, "First local day with the goal."),
                Column("ended_on", NONE, "First local day without it; null while open."),
                _UPDATED,
            ),
        ),
        Table(
            "choices",
            "One row per person, local day and kind: what the application proposed.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the choice."),
                Column("user_id", PII, "Person."),
                Column("local_date", NONE, "The person's day."),
                Column("kind", NONE, "`workout` or `quote`."),
                Column("item", NONE, "Code of the workout, or key of the quote."),
                Column("propensity", NONE, "Probability with which this item was chosen."),
                Column("policy", NONE, "`default`, `popular` or `model:<n>`."),
                Column("reason", NONE, "What the person was told."),
                Column("shown_at", NONE, "When the person saw it, UTC."),
                Column("done_at", NONE, "When the person did it, UTC; null until then."),
                _UPDATED,
            ),
        ),
        Table(
            "clubs",
            "One row per club.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the club."),
                Column("name", NONE, "Name."),
                Column("created_at", NONE, "When it was founded, UTC."),
                _UPDATED,
            ),
        ),
        Table(
            "club_members",
            "One row per member of a club.",
            key=("club_id", "user_id"),
            strategy="cdc",
            columns=(
                Column("club_id", NONE, "Club."),
                Column("user_id", PII, "Member."),
                Column("joined_at", NONE, "When the person joined, UTC."),
                _UPDATED,
            ),
        ),
        Table(
            "challenges",
            "One row per challenge of a club: an amount to reach together.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the challenge."),
                Column("club_id", NONE, "Club."),
                Column("name", NONE, "Name."),
                Column("unit", NONE, "`minutes`, `metres` or `workouts`."),
                Column("amount", NONE, "How much, in this unit."),
                Column("starts_on", NONE, "First day."),
                Column("ends_on", NONE, "First day after it."),
                _UPDATED,
            ),
        ),
        Table(
            "messages",
            "One row per message: the outbox.",
            key=("id",),
            strategy="cdc",
            lake_partition="created_at",
            columns=(
                Column("id", NONE, "Key of the message."),
                Column("message_key", NONE, "The same for the same cause, so it is sent once."),
                Column("user_id", PII, "Receiver; null if there is no account yet."),
                Column("address", PII, "Address of somebody without an account; otherwise null."),
                Column("channel", NONE, "`email` or `sms`."),
                Column("purpose", NONE, "`account`, `reminder`, `quote` or `news`."),
                Column("template", NONE, "Name of its text."),
                Column("parameters", SENSITIVE, "What stands in the text, JSON."),
                Column("state", NONE, "`waiting`, `sending`, `sent`, `failed` or `dropped`."),
                Column("reason", NONE, "Why it was not sent, or not yet; may be null."),
                Column("attempts", NONE, "Answers of the provider."),
                Column("due_at", NONE, "When it may go, UTC."),
                Column("expires_at", NONE, "When nobody wants it any more, UTC."),
                Column("claimed_by", NONE, "The sender that is at work on it; or null."),
                Column("claimed_until", NONE, "Until when it is, UTC; or null."),
                Column("provider_id", NONE, "The provider's key; null until it is sent."),
                Column("sent_at", NONE, "When the provider took it, UTC; null until then."),
                Column("created_at", NONE, "When it was caused, UTC."),
                _UPDATED,
            ),
        ),
        Table(
            "message_events",
            "One row per message and event that a provider reported.",
            key=("id",),
            strategy="cdc",
            columns=(
                Column("id", NONE, "Key of the event."),
                Column("message_id", NONE, "Message."),
                Column(
                    "event",
                    NONE,
                    "`accepted`, `delivered`, `bounced`, `complained`, `opened`, `clicked`, "
                    "`unsubscribed` or `stopped`.",
                ),
                Column("happened_at", NONE, "When it happened, UTC."),
                Column("detail", PII, "What the provider said; may be null."),
                _UPDATED,
            ),
        ),
        Table(
            "suppressions",
            "One row per address that gets no more messages.",
            key=("channel", "address_digest"),
            strategy="cdc",
            columns=(
                Column("channel", NONE, "`email` or `sms`."),
                Column("address_digest", PII, "SHA-256 of the address or number."),
                Column("reason", NONE, "`bounce`, `complaint` or `stop`."),
                Column("since", NONE, "Since when, UTC."),
                _UPDATED,
            ),
        ),
    ),
)

INSPIRE_TABLES: Final = (
    *(table.at_source for table in INSPIRE.tables),
    *("credentials", "second_factors", "recovery_codes", "sign_ins", "links", "api_tokens"),
)
"""All tables of MySQL, the further ones included. A database of an older release may lack some."""

INSPIRE_DOCS = Source(
    "inspire_docs",
    "mongodb",
    "Workouts and settings of the people of the fitness application.",
    tables=(
        Table(
            "activity_logs",
            "One document per workout. Each activity has fields of its own.",
            key=("_id",),
            strategy="cdc",
            lake_partition="started_at",
            columns=(
                Column("_id", NONE, "Key of the workout, a UUID."),
                Column("user_id", PII, "Person."),
                Column(
                    "activity", SENSITIVE, "`run`, `ride`, `swim`, `walk`, `strength` or `yoga`."
                ),
                Column("started_at", SENSITIVE, "When it was begun."),
                Column("time_zone", PII, "Time zone of the place where it was done, IANA."),
                Column("local_date", SENSITIVE, "The day there when it was begun, `YYYY-MM-DD`."),
                Column("duration_seconds", SENSITIVE, "How long it took."),
                Column("effort", SENSITIVE, "1 to 10; null: the person did not say."),
                Column("note", SENSITIVE, "What the person wrote about it."),
                Column("origin", NONE, "`app`, `api`, `gpx`, `tcx` or `fit`."),
                Column("fingerprint", SENSITIVE, "The same for one workout from two devices."),
                Column("distance_m", SENSITIVE, "Distance of a run, walk, ride or swim, metres."),
                Column("ascent_m", SENSITIVE, "Metres up, of a run, walk or ride."),
                Column("average_watts", SENSITIVE, "Mean power of a ride."),
                Column("pool_m", SENSITIVE, "Length of the pool of a swim, metres."),
                Column("stroke", SENSITIVE, "Stroke of a swim."),
                Column(
                    "sets",
                    SENSITIVE,
                    "Sets of strength: array of `exercise`, `repetitions` and `load_kg`.",
                ),
                Column("style", SENSITIVE, "Style of yoga."),
                Column("created_at", NONE, "When the document was written."),
                _DOCUMENT_UPDATED,
            ),
        ),
        Table(
            "preferences",
            "One document per person: what the person wants of the application.",
            key=("_id",),
            strategy="cdc",
            columns=(
                Column("_id", PII, "Person."),
                Column("fitness_goals", PII, "Array of codes of goals."),
                Column("experience", PII, "`new`, `some` or `much`."),
                Column("rest_days", PII, "Array of weekdays without training, 0 is Monday."),
                Column("equipment", PII, "Array of what the person can use."),
                Column("mood", PII, "Preferred mood of quotes."),
                Column(
                    "notifications",
                    PII,
                    "`channels`, `reminder_at`, `best_hour`, `quiet_from`, `quiet_until`, `days`.",
                ),
                _DOCUMENT_UPDATED,
            ),
        ),
        Table(
            "product_metadata",
            "One document per product of the shop that is of use in training.",
            key=("_id",),
            strategy="cdc",
            columns=(
                Column("_id", NONE, "Key of the product in the shop's catalog."),
                Column("activities", NONE, "Array of the activities it is for."),
                Column("goals", NONE, "Array of codes of goals."),
                Column("level", NONE, "`new`, `some` or `much`: whom it suits."),
                _DOCUMENT_UPDATED,
            ),
        ),
    ),
    totals=(ACTIVE_DAYS,),
)

INSPIRE_SESSIONS = Source(
    "inspire_sessions",
    "dynamodb",
    "Who has signed in to the fitness application.",
    tables=(
        Table(
            "sessions",
            "One item per session. It goes when the person signs out or after it has expired.",
            key=("session_id",),
            strategy="cdc",
            columns=(
                Column("session_id", PII, "SHA-256 of the secret in the browser."),
                Column("user_id", PII, "Person."),
                Column("started_at", NONE, "When the person signed in, seconds since 1970."),
                Column("seen_at", NONE, "The last request, to the minute, seconds since 1970."),
                Column("expires_at", NONE, "When it ends by itself, seconds since 1970."),
                Column("signed_out_at", NONE, "When the person signed out; missing until then."),
                Column("device", NONE, "`phone`, `tablet` or `computer`."),
                Column("time_zone", PII, "Time zone of the device, IANA."),
                Column("page_views", NONE, "Pages that were seen."),
                Column("workouts_logged", NONE, "Workouts that were logged."),
                Column("how", NONE, "`password` or `api`."),
            ),
        ),
    ),
)
