"""The trail of commands that act in the relay's place: who, when, what, why (`iu_relay_action`)."""

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from iu_core.database import Connection, translate


def record_action(owner: Connection, command: str, detail: dict[str, Any], reason: str) -> None:
    """Write down that `command` begins; before the act, so that one killed in the middle has its row.

    `owner` is in role `iu_owner`; `detail` is JSON. Raises `Terminal` without a reason, else as the database.
    """
    try:
        owner.execute("SELECT public.fn_iu_relay_action_record(%s, %s, %s)", (command, Jsonb(detail), reason))
    except psycopg.Error as error:
        raise translate(error) from error
