"""Threads that wait for work: who is woken, and what ends a wait."""

from threading import Thread

from penstock.serving.idle_threads import IdleThreads, make_wake_lock
from tests.harness import PATIENCE_S


class Waiter(Thread):
    """Waits once; ``began`` is free when it waits."""

    def __init__(self, idle: IdleThreads) -> None:
        super().__init__(daemon=True)
        self._idle = idle
        self.began = make_wake_lock()
        self.start()
        self.began.acquire()
        with idle.lock:  # it has let go of the lock, so it waits
            pass

    def run(self) -> None:
        with self._idle.lock:
            self.began.release()
            self._idle.wait(make_wake_lock())


def test_the_thread_that_began_to_wait_last_is_woken_first() -> None:
    idle = IdleThreads()
    first, second = Waiter(idle), Waiter(idle)
    with idle.lock:
        idle.wake_one()
    second.join(PATIENCE_S)
    assert first.is_alive()
    with idle.lock:
        idle.wake_one()
        assert idle.is_empty
    first.join(PATIENCE_S)
    assert not first.is_alive()


def test_all_are_woken_together_and_nobody_need_wait() -> None:
    idle = IdleThreads()
    with idle.lock:
        idle.wake_one()
    waiters = [Waiter(idle) for _ in range(3)]
    with idle.lock:
        idle.wake_all()
    for waiter in waiters:
        waiter.join(PATIENCE_S)
    assert not any(waiter.is_alive() for waiter in waiters)


def test_a_wait_ends_with_its_time_and_takes_the_lock_again() -> None:
    idle, wake = IdleThreads(), make_wake_lock()
    with idle.lock:
        idle.wait(wake, 0.001)
        assert idle.is_empty
        assert idle.lock.locked()


class ExpiredLock:
    """A lock that is released just after its time has passed."""

    def __init__(self, idle: IdleThreads) -> None:
        self._idle = idle
        self.free = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if timeout >= 0:
            self._idle.wake_one()
            return False
        assert blocking
        assert self.free, "it would wait for ever"
        self.free = False
        return True

    def release(self) -> None:
        self.free = True


def test_a_thread_that_is_woken_too_late_is_not_woken_again_at_once() -> None:
    idle = IdleThreads()
    wake = ExpiredLock(idle)
    with idle.lock:
        idle.wait(wake, 0.001)
    assert not wake.free
