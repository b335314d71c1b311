"""Sessions of browsers that have signed in: each stands for the credential it was begun with, in memory only.

The credential is authenticated again for every request, so a session ends with it. A restart of the gateway ends all.
"""

import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

log = logging.getLogger("penstock.control")

IDLE_S: Final = 3600.0
"""Seconds without a request after which a session ends; an open page with a live stream makes some."""

LONGEST_S: Final = 12 * 3600.0
"""Seconds after which a session ends in any case."""

MOST_SESSIONS: Final = 1024
MOST_OF_ONE: Final = 32
"""Sessions of all credentials together, and of one; beyond them the one that was used least recently ends."""


@dataclass(frozen=True, slots=True)
class Session:
    """One browser: the field ``authorization`` it stands for, the token that its changes must carry (``csrf``), and
    when it began and was last used, in seconds of a monotonic clock."""

    authorization: bytes
    csrf: str
    began_s: float
    used_s: float


class Sessions:
    """The sessions of one control process; of one event loop. ``make_token`` gives texts that nobody can guess.

    They are kept by the digest of their id, so that a copy of this memory does not hold the cookies.
    """

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        make_token: Callable[[], str] = lambda: secrets.token_urlsafe(32),
        most: int = MOST_SESSIONS,
        most_of_one: int = MOST_OF_ONE,
    ) -> None:
        self._clock = clock
        self._make_token = make_token
        self._most = most
        self._most_of_one = most_of_one
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, authorization: bytes) -> str:
        """Begin a session for a credential that was just authenticated, and return its id for the cookie."""
        now_s = self._clock()
        self._drop_ended(now_s)
        own = [key for key, session in self._sessions.items() if session.authorization == authorization]
        if len(own) >= self._most_of_one:
            self._evict(own[0], "its credential has too many")
        elif len(self._sessions) >= self._most:
            self._evict(next(iter(self._sessions)), "there are too many")
        session_id = self._make_token()
        self._sessions[_hash_id(session_id)] = Session(authorization, self._make_token(), now_s, now_s)
        return session_id

    def find(self, session_id: str) -> Session | None:
        """Return a session that has not ended, and note that it is used; None for any other id."""
        key, now_s = _hash_id(session_id), self._clock()
        session = self._sessions.get(key)
        if session is None:
            return None
        if _has_ended(session, now_s):
            del self._sessions[key]
            return None
        self._sessions[key] = session = replace(session, used_s=now_s)
        self._sessions.move_to_end(key)
        return session

    def end(self, session_id: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(_hash_id(session_id), None)

    def _drop_ended(self, now_s: float) -> None:
        for key in [key for key, session in self._sessions.items() if _has_ended(session, now_s)]:
            del self._sessions[key]

    def _evict(self, key: bytes, reason: str) -> None:
        del self._sessions[key]
        self.evicted += 1
        log.warning("the session of a browser has ended, because %s", reason)


def _has_ended(session: Session, now_s: float) -> bool:
    return now_s - session.used_s >= IDLE_S or now_s - session.began_s >= LONGEST_S


def _hash_id(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode(errors="replace")).digest()
