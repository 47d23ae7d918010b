"""Followers: work that follows the log, done by one process for all. It holds the follower's lease meanwhile.

`manage.py follow` is the process for it. Server processes stand by: without it one of them takes the lease.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from scores import metrics
from scores.boards.closing import Closer
from scores.boards.copies import board_copies
from scores.boards.follower import BoardFollower
from scores.boards.webhooks import Sender
from scores.engagement.fold import EngagementFold
from scores.engagement.sockets import LOOK_EVERY_S, sampler
from scores.exceptions import CopyUnusable
from scores.log.head import Log, log
from scores.log.lease import RENEW_EVERY_S, Lease
from scores.log.writer import writer
from scores.streams.broker import BrokerFailed, stream
from scores.streams.publish import Publisher

logger = logging.getLogger(__name__)

PAUSE_S = 0.25  # after a step that failed, at least


class Task(NamedTuple):
    """A part of a follower's work, in a thread of its own, step by step.

    `run` does a step, and returns whether there may be more to do at once. Otherwise the next step is `every_s` later, or
    after a call of `Runner.wake`. A step that takes long asks `Lease.held` between its parts. `end` runs after the last.
    """

    name: str
    run: Callable[[], bool]
    every_s: float
    end: Callable[[], object] = lambda: None


class Follower(NamedTuple):
    """What a process does while it holds the lease `name`.

    `tasks` is called each time that it gets the lease: they know nothing from an earlier time, when another had it.
    """

    name: str
    tasks: Callable[[Lease], Sequence[Task]]


class Runner:
    """A thread that holds or awaits the lease of a follower, and lets its tasks run while it has it."""

    def __init__(self, follower: Follower, lease: Lease) -> None:
        self._follower = follower
        self._lease = lease
        self._work: Work | None = None
        self._outage = Outage(f"The lease of {follower.name}")
        self._beginning = Outage(f"The beginning of {follower.name}")
        self._held = metrics.follower_held.labels(follower.name)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, name=f"follower {self._follower.name}", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Let the tasks end their steps, and give the lease up."""
        if self._thread is not None:
            self.end()
            self._thread.join(timeout_s)
            self._thread = None

    def end(self) -> None:
        """Begin to stop. `stop` waits for it."""
        self._ended.set()

    def wake(self) -> None:
        """Begin the next step of each task now."""
        work = self._work
        if work is not None:
            work.wake()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._look()
                self._ended.wait(RENEW_EVERY_S)
            while self._work is not None and not self._work.ends_within(RENEW_EVERY_S):
                self._outage.watch(self._lease.hold)  # or another would begin beside the last steps
            self._outage.watch(self._lease.release)
        except Exception:
            logger.exception("The follower %s ended", self._follower.name)
        finally:
            self._held.set(0)
            connections.close_all()

    def _look(self) -> None:
        """Renew or take the lease, and begin or end the work."""
        work = self._work
        if work is None or not work.is_over:
            self._outage.watch(self._lease.hold)
        elif work.ends_within(0):
            self._work = None
            logger.info("No longer follows the log for %s", self._follower.name)
        # Else a step from before the lease was lost still runs, and it is left to others.
        if self._work is not None and not self._work.may_go_on:
            self._work.end()
        elif self._work is None and self._lease.held:
            self._beginning.watch(self._begin)
        self._held.set(self._lease.held)

    def _begin(self) -> None:
        self._work = Work(self._follower, self._lease)
        metrics.follower_takeovers.labels(self._follower.name).inc()
        logger.info("Follows the log for %s", self._follower.name)


class Work:
    """The tasks of a follower, from the moment that the lease was taken until it is lost or given up."""

    def __init__(self, follower: Follower, lease: Lease) -> None:
        self._lease = lease
        self._term = lease.term
        self._over = threading.Event()
        self._awake: list[threading.Event] = []
        self._threads: list[threading.Thread] = []
        for task in follower.tasks(lease):
            awake = threading.Event()
            name = f"{follower.name}: {task.name}"
            self._awake.append(awake)
            self._threads.append(
                threading.Thread(target=self._repeat, args=[task, name, awake], name=name, daemon=True)
            )
        for thread in self._threads:
            thread.start()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    @property
    def may_go_on(self) -> bool:
        """Whether the lease lasts, and nobody else had it since the work began."""
        return not self.is_over and self._lease.held and self._lease.term == self._term

    def wake(self) -> None:
        for awake in self._awake:
            awake.set()

    def end(self) -> None:
        """No task begins another step."""
        self._over.set()
        self.wake()

    def ends_within(self, timeout_s: float) -> bool:
        """End, and return whether the last steps have ended by then."""
        self.end()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _repeat(self, task: Task, name: str, awake: threading.Event) -> None:
        outage = Outage(name)
        try:
            while True:
                awake.clear()  # first: whoever wakes or ends it from here on is heard below
                if not self.may_go_on:
                    break
                more = outage.watch(task.run)
                if outage.under_way:
                    self._over.wait(max(task.every_s, PAUSE_S))
                elif not more:
                    awake.wait(task.every_s)
        finally:
            task.end()
            self._over.set()  # the lease ran out: with the renewal that comes too late, all of the work begins anew
            connections.close_all()


class Outage:
    """Says once that something fails because a store or the broker is away, and once that it works again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.under_way = False
        self._is_told = False

    def watch(self, run: Callable[[], object]) -> bool:
        """What `run` returned; `False` if it failed."""
        try:
            answer = bool(run())
        except (DatabaseError, CopyUnusable, BrokerFailed) as error:
            if not self._is_told:
                what = "the broker" if isinstance(error, BrokerFailed) else "a store"
                logger.warning("%s waits for %s: %s", self._name, what, str(error).strip() or type(error).__name__)
            self.under_way = self._is_told = True
            if isinstance(error, DatabaseError):
                connections.close_all()
            return False
        except Exception:
            logger.exception("%s failed and will try again", self._name)
            self.under_way = True
            return False
        if self._is_told:
            logger.info("%s goes on", self._name)
        self.under_way = self._is_told = False
        return answer


class Runners:
    """The runners of all `followers` in this process, and of `publish` where the settings ask for it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._runners: list[Runner] = []

    def start(self, *, is_dedicated: bool) -> None:
        if not self._runners:
            for follower in [*followers, *([publishing] if settings.PUBLISH else [])]:
                self._runners.append(Runner(follower, Lease(self._log, follower.name, is_dedicated=is_dedicated)))
            for runner in self._runners:
                runner.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Let all end what they do, and give their leases up."""
        until = time.monotonic() + timeout_s
        for runner in self._runners:
            runner.end()
        for runner in self._runners:
            runner.stop(max(until - time.monotonic(), 0))
        self._runners = []

    def wake(self) -> None:
        for runner in self._runners:
            runner.wake()


def board_tasks(lease: Lease) -> list[Task]:
    """Boards after the log: their copies at the rate of frames, their standings more rarely, since each time costs more.

    Twice a second, the standings of eight boards made the slowest percent of increments a third slower, on two cores; every
    two seconds a tenth. While Redis is away, boards are that much older, and say so.
    """
    follower = BoardFollower(log, board_copies)
    return [
        Task("copies of boards", follower.fold, 0.05),
        Task("standings of boards", follower.project, 2.0),
        Task("building of boards", follower.build, 0.5),
        Task("care of boards", follower.tend, 0.25, follower.end),
        Task("closing of boards", Closer(log, writer).close, 1.0),
        Task("webhooks", Sender(log).send, 1.0),
    ]


def engagement_tasks(lease: Lease) -> list[Task]:
    """Who plays when. Nobody watches it by the second, so it folds many events at once."""
    return [
        Task("fold of engagement", EngagementFold(log).fold, 2.0),
        Task("samples of sockets", sampler.sample, LOOK_EVERY_S),
    ]


def publish_tasks(lease: Lease) -> list[Task]:
    """Events to the broker, ten times a second: a message costs the broker the same however many come at once."""
    publisher = Publisher(log, lease, stream(settings.PUBLISH_TO), batch=settings.PUBLISH_BATCH)
    return [Task("events to the broker", publisher.publish, 0.1, publisher.end)]


publishing = Follower("publish", publish_tasks)
followers = [Follower("boards", board_tasks), Follower("engagement", engagement_tasks)]
runners = Runners(log)
