"""Whether Ray itself is up: the raylet of this node, through which every call goes, and the cluster's control service.

Where one of them dies, Ray ends this process after 10 to 60 seconds, without a word for people. Until then its calls
hang or fail one after the other. So code that waits for Ray asks here now and then, and after every error of Ray's.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from raysim.errors import LostError

CHECK_SECONDS = 2.0
"""How long a wait may last between two looks."""

PATIENCE = 20.0
"""How long the control service of a cluster may be away: one that keeps its state elsewhere is started again."""

_ANSWER_SECONDS = 2.0


class Health:
    """Asks the services that a driver cannot do without.

    Attributes:
        lost: whether one of them is dead; Ray must not be called any more then, except to shut it down.
    """

    def __init__(self, ray: Any, *, owned: bool) -> None:
        """`owned`: this process started Ray, and its services are not started again."""
        context = ray.get_runtime_context()
        home = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
        raylet = f"{home['NodeManagerAddress']}:{home['NodeManagerPort']}"
        self._services = [
            ("the raylet of this node", raylet, 0.0),
            ("its control service (GCS)", context.gcs_address, 0.0 if owned else PATIENCE),
        ]
        self.lost = False
        self._checked = time.monotonic()

    def look(self) -> None:
        """`check`, unless that was done a moment ago: actors go on for a while when the raylet is dead, and rounds with
        them.

        Raises:
            LostError: Ray is gone.
        """
        if time.monotonic() - self._checked >= CHECK_SECONDS:
            self.check()

    def check(self) -> None:
        """Find out whether Ray is up.

        Raises:
            LostError: it is not.
        """
        for what, address, patience in self._services:
            deadline = time.monotonic() + patience
            while _refuses(address):
                if time.monotonic() >= deadline:
                    self.lost = True
                    raise LostError(f"Ray is gone: {what} at {address} died; see why (often memory ran out)")
                time.sleep(0.5)
        self._checked = time.monotonic()


def _refuses(address: str) -> bool:
    """Whether the port refuses connections. A machine that is slow, or cannot be reached for a while, may be alive."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
