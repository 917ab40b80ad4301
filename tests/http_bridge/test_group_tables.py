"""The tables of groups, without Kafka."""

import sqlite3
from contextlib import closing

from http_bridge.group_tables import SCORE_GROUP, SCORE_MEMBERS, TABLES

MEMBERS = 5000
MOST_STEPS = 200 * MEMBERS
"""Of SQLite's virtual machine; what grows with the square of a group needs millions."""


def test_the_score_of_a_large_group_takes_steps_in_proportion_to_its_size() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO groups (id) VALUES ('g')")
        connection.executemany(
            "INSERT INTO members VALUES ('g', ?, '', ?, 0, NULL, '')", [(f"{n:04}.jpg", n) for n in range(MEMBERS)]
        )
        pairs = [(f"{n:04}.jpg", "0000.jpg", 0.5 + n / (2 * MEMBERS)) for n in range(1, MEMBERS)]
        connection.executemany("INSERT INTO pairs VALUES (?, ?, '', '', ?, 0, '')", pairs)
        connection.set_progress_handler(lambda: 1, MOST_STEPS)
        connection.execute(SCORE_MEMBERS, ("g",))
        connection.execute(SCORE_GROUP, ("g",))
        assert connection.execute("SELECT score FROM groups").fetchone() == (pairs[0][2],)
        assert connection.execute("SELECT score FROM members WHERE place = 4999").fetchone() == (pairs[-1][2],)
