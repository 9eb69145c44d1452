"""The control database: every table that a person's decisions and the gateway's promises live in.

SQLite embedded (control.db in the state directory), PostgreSQL in production; through SQLAlchemy either way. Changing a
table means a new SCHEMA_VERSION and a step in `migrations`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 6

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

ledger = Table(
    "ledger",
    metadata,
    Column("reservation_id", String, primary_key=True),
    Column("reserved_at_us", BigInteger, nullable=False),
    Column("hour", String(13), nullable=False, index=True, doc="UTC hour, 2026-11-24T02"),
    Column("reserved_usd", Float, nullable=False),
    Column("settled_usd", Float, doc="null while the question is in flight"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("snapshot", String, nullable=False),
    Column("dataset_hash", String, nullable=False),
    Column("report_sha256", String(64), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("registered_at_us", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, doc="deploy.rules.rollout.CandidateState"),
    Column("stage", String(16), nullable=False, doc="how far it came: gate, shadow, approval, canary, full"),
    Column("rejected_by", String, doc="the person who rejected it; null where only the gate did"),
    Column("seal", String(64), doc="its latest seal; null where that is of version 1, which is history"),
    Index("candidates_newest", "created_at_us", "digest"),
)

seals = Table(
    "seals",
    metadata,
    Column("seal", String(64), primary_key=True, doc="sha256 of the evidence"),
    Column("candidate", String(64), nullable=False, index=True),
    Column("decision", String(8), nullable=False, doc="pass, hold or reject"),
    Column("reasons", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("sealed_at_us", BigInteger, nullable=False),
    Column("version", Integer, doc="of the evidence; null: 1"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rollout_id", String(32), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("candidate", String(64), nullable=False, index=True),
    Column("seal", String(64), nullable=False),
    Column("actor", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("override_hold", Boolean, nullable=False),
)

objections = Table(
    "objections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("candidate", String(64), nullable=False, index=True),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("withdrawn_at_us", BigInteger, doc="null while it blocks"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("candidate", String(64), nullable=False, index=True),
    Column("incumbent", String(64), doc="what it runs against; null: the bare base"),
    Column("state", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("approved_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger, doc="when it was full or rolled back; null while under way"),
    Column("salt", String(64), doc="keys its units' places; null where it began before version 3"),
)

serving = Table(
    "serving",
    metadata,
    Column("id", Integer, primary_key=True, doc="always 1; its row lock orders every change"),
    Column("incumbents", JSON, nullable=False, doc="digests, the current one last; null is the bare base"),
    Column("rollout_id", String(32), doc="the rollout under way"),
    Column("halted", Boolean, nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(64), doc="candidate, key or training; null: the whole service"),
    Column("before", String, doc="what it was"),
    Column("after", String, doc="what it became"),
    Column("reason", Text, nullable=False),
    Column("sha256", String(64), nullable=False, doc="over this row and the sha256 of the row before it"),
    Column("data", JSON, doc="what the words say, as values; part of the sha256 where there is any"),
    Index("history_by_subject", "subject", "id"),
)
Index(
    "history_rollbacks",
    history.c.id,
    sqlite_where=history.c.after == "rolled_back",
    postgresql_where=history.c.after == "rolled_back",
)
"""So that counting them does not read all of it."""

periods = Table(
    "periods",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("started_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger, doc="null: it is now"),
    Column("incumbent", String(64), doc="null: the bare base"),
    Column("rollout_id", String(32)),
    Column("candidate", String(64)),
    Column("share", Float, nullable=False, doc="of the units that new conversations put on the candidate, 0..1"),
    Column("halted", Boolean, nullable=False, doc="the bare base served everything"),
    Index("periods_by_rollout", "rollout_id"),
)
"""Who served what from when to when: a row for every change of what new conversations get."""

assignments = Table(
    "assignments",
    metadata,
    Column("rollout_id", String(32), primary_key=True),
    Column("tenant", String, primary_key=True),
    Column("conversation_id", String, primary_key=True),
    Column("unit", String, nullable=False),
    Column("arm", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Index("assignments_by_unit", "rollout_id", "tenant", "unit"),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rollout_id", String(32), nullable=False),
    Column("tenant", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("number", Integer, nullable=False, doc="0 for the unit's first in this rollout"),
    Column("arm", String(16), nullable=False),
    Column("probability", Float, nullable=False, doc="with which it came to the candidate's arm"),
    Column("share", Float, nullable=False, doc="the rollout's then"),
    Column("at_us", BigInteger, nullable=False),
    UniqueConstraint("rollout_id", "tenant", "unit", "number", name="enrolments_of_unit"),
    Index("enrolments_in_order", "rollout_id", "at_us", "id"),
)
"""What the outcomes of a rollout are counted by: units, in order of assignment."""

looks = Table(
    "looks",
    metadata,
    Column("rollout_id", String(32), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("document", JSON, nullable=False, doc="what the controller saw last: arms, decision, reasons"),
)

shadows = Table(
    "shadows",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("candidate", String(64), nullable=False, index=True),
    Column("salt", String(64), nullable=False, doc="keys its units' places"),
    Column("started_at_us", BigInteger, nullable=False),
    Column("min_s", Integer, nullable=False, doc="it lasts so long at least"),
    Column("max_s", Integer, nullable=False, doc="and at most"),
    Column("ended_at_us", BigInteger, doc="null while the candidate answers a copy of some turns, unseen"),
    Column("outcome", String(16), doc="deploy.rules.shadow.Outcome; null until then"),
    Column("why", Text, doc="in a sentence"),
)

shadow_asks = Table(
    "shadow_asks",
    metadata,
    Column("candidate", String(64), primary_key=True),
    Column("tenant", String, primary_key=True),
    Column("unit", String, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("failure", String(16), doc="why no pair came of it; null where one did, or it is under way"),
    Index("shadow_asks_by_time", "candidate", "at_us"),
)
"""For whom a candidate was asked, unseen: once for each unit, whatever came of it."""

comparisons = Table(
    "comparisons",
    metadata,
    Column("number", Integer, primary_key=True, doc="the order of sampling"),
    Column("id", String(32), nullable=False, unique=True),
    Column("candidate", String(64), nullable=False),
    Column("incumbent", String(64), nullable=False, doc="empty: the bare base"),
    Column("origin", String(8), nullable=False, doc="offline or shadow"),
    Column("tenant", String, nullable=False),
    Column("conversation_id", String, nullable=False),
    Column("turn_id", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("locale", String),
    Column("prompt", JSON, nullable=False, doc="redacted, as the facts have it"),
    Column("candidate_reply", Text, nullable=False),
    Column("incumbent_reply", Text, nullable=False),
    Column("people", Integer, nullable=False, doc="so many are to be asked; 0: the judge alone"),
    Column("probability", Float, nullable=False, doc="with which people were to be asked"),
    Column("sampled_at_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False, doc="what is said of it later counts nowhere"),
    Column("identical", Boolean, nullable=False, doc="both replies are the same, to a person: of it nobody is asked"),
    UniqueConstraint("candidate", "incumbent", "tenant", "unit", name="comparisons_of_unit"),
)
"""Two replies to one prompt, compared blindly before anybody is served by the candidate: a unit has one of each candidate."""
Index(
    "comparisons_for_people",
    *(comparisons.c[name] for name in ("number", "candidate", "incumbent", "tenant", "people", "id")),
    sqlite_where=comparisons.c.people > 0,
    postgresql_where=comparisons.c.people > 0,
)
"""What people are asked about is chosen from it, without reading the texts of those before."""

comparison_labels = Table(
    "comparison_labels",
    metadata,
    Column("comparison_id", String(32), primary_key=True),
    Column("labeller", String, primary_key=True, doc="a person's name; empty: the judge"),
    Column("preference", Float, doc="for the candidate, 0..1; null: skipped, or no verdict came"),
    Column("reason", Text, nullable=False, doc="in the labeller's words, or why there is no verdict"),
    Column("at_us", BigInteger, nullable=False),
    Column("how", JSON, nullable=False, doc="a person: which reply came first; the judge: model, rubric, prompt, cost"),
)

comparison_claims = Table(
    "comparison_claims",
    metadata,
    Column("comparison_id", String(32), primary_key=True),
    Column("labeller", String, primary_key=True),
    Column("until_us", BigInteger, nullable=False, doc="so long a place is kept for this person"),
    Column("first", String(9), nullable=False, doc="whose reply is shown first: candidate or incumbent"),
    Index("comparison_claims_of_person", "labeller"),
)
"""Who was asked about which pair, and in which order its replies were shown: a row stays when its place is kept no longer."""

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String, nullable=False),
    Column("tenant", String, nullable=False, doc="empty: bound to none"),
    Column("scopes", String, nullable=False, doc="sorted, with commas"),
    Column("sha256", String(64), nullable=False, unique=True, doc="of the token, which is kept nowhere"),
    Column("created_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
)

trainings = Table(
    "trainings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("started_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
    Column("outcome", String(16), doc="done, failed or stopped; null while it runs"),
    Column("error", Text),
    Column("snapshot", String),
    Column("candidate", String(64)),
    Column("positions", JSON, doc="how far its snapshot read each partition of each log; null before version 2"),
)

training_requests = Table(
    "training_requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("requested_at_us", BigInteger, nullable=False),
    Column("answer", String(16), doc="approved, rejected or used; null while nobody has answered"),
    Column("actor", String),
    Column("answered_at_us", BigInteger),
    Column("positions", JSON, doc="how far the facts went when it was answered"),
)
