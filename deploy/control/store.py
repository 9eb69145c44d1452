"""What Trimtab remembers of decisions: the control database, opened. Rules live in `rules`; `decisions` brings the two together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from deploy.control import history
from deploy.control.assignments import Assignments
from deploy.control.comparisons import Comparisons
from deploy.control.database import Database, open_database
from deploy.control.keys import Key, Keys
from deploy.control.labelling import Labelling
from deploy.control.reading import read_database
from deploy.control.shadows import Shadows
from deploy.control.trainings import Trainings
from deploy.control.transaction import Transaction
from deploy.rules.assignment import Assignment, Conversation, Exposure, Routing


class Control:
    """The control database. Make one with `open_control`; any thread may use it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.database)

    @cached_property
    def assignments(self) -> Assignments:
        return Assignments(self.database)

    @cached_property
    def comparisons(self) -> Comparisons:
        return Comparisons(self.database)

    @cached_property
    def labelling(self) -> Labelling:
        return Labelling(self.database)

    @cached_property
    def shadows(self) -> Shadows:
        return Shadows(self.database)

    @cached_property
    def trainings(self) -> Trainings:
        return Trainings(self.database)

    def key(self, token: str, now_us: int) -> Key | None:
        """The valid key of a bearer token, else None."""
        return self.keys.find(token, now_us)

    def keyed(self) -> bool:
        """Whether there is a key that was not revoked."""
        return self.keys.exist()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One consistent view."""
        with self.database.read() as connection:
            yield Transaction(connection)

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """Changes, one after another: what is read in here stays true until the end."""
        with self.database.write() as connection:
            history.lock(connection)
            yield Transaction(connection)

    def routing(self) -> Routing:
        """Who serves now."""
        return self.assignments.routing()

    def assignment(self, rollout_id: str, tenant: str, conversation_id: str) -> Assignment | None:
        """The arm that this conversation was assigned in this rollout."""
        return self.assignments.find(rollout_id, tenant, conversation_id)

    def assign(self, assignment: Assignment) -> Assignment:
        """Store it; of several at once for one conversation the first stands, and that one is returned."""
        return self.assignments.assign([assignment])[assignment.tenant, assignment.conversation_id]

    def expose(self, tenant: str, conversation_id: str, unit: str, now_us: int) -> Exposure:
        """What serves this conversation's next turn; its assignment is on disk when this returns."""
        return self.expose_all([Conversation(tenant, conversation_id, unit, now_us)])[0]

    def expose_all(self, conversations: Sequence[Conversation]) -> list[Exposure]:
        """`expose` for many at once, in one transaction."""
        return self.assignments.expose(conversations)

    def history(self, limit: int | None = None) -> Sequence[history.Entry]:
        """What was changed, by whom and why, newest first."""
        with self.database.read() as connection:
            return history.read(connection, limit)

    def close(self) -> None:
        self.database.close()


def open_control(where: str | Path) -> Control:
    """The control database at a path (SQLite) or URL (`postgresql://…`), made where it is missing.

    Raises Failed when it can't be opened or belongs to a newer version.
    """
    return Control(open_database(where))


def read_control(where: str | Path) -> Control:
    """The control database for whoever only looks: nothing is made or changed; an empty one where there is none yet.

    Raises Failed when it can't be read or belongs to another version.
    """
    return Control(read_database(where))
