"""The writer's thread: batches become transactions, and errors become answers.

A failed fsync is never retried, since the kernel may have dropped the pages: the writer is dead
from then on and touches no file, and the process reopens the store. It waits for the end of another
program's lock; on a full volume it refuses new mail and makes room for the rest; one operation that
fails does not affect the others.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import structlog

from mailrelay_gateway.durable import write_durably
from mailrelay_gateway.queue.disk.batch import Finish, Operation, added, run_batch
from mailrelay_gateway.queue.disk.damage import mark_damaged
from mailrelay_gateway.queue.disk.folder import Layout
from mailrelay_gateway.queue.disk.space import FULL, Space
from mailrelay_gateway.queue.disk.tables import Effects, Tables
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import refuse

log = structlog.get_logger()

#: Seconds that a new message waits for another program's lock before it is answered 451.
BUSY_PATIENCE = 5.0
#: Seconds between two tries where descriptors are short.
_PAUSE = 0.2

FAILED = refuse(Reason.SPOOL_FAILED)
BUSY = refuse(
    Reason.SPOOL_FAILED,
    detail="another program holds a lock on the queue's database",
)

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

Answers = list[tuple[Operation, Any]]


class WriterDead(Exception):
    """The writer cannot continue; the text says why. `answers` are those of the operations that
    were carried out before, `left` are the others.
    """

    def __init__(self, why: str, answers: Answers, left: Sequence[Operation]) -> None:
        """Set the reason and the answers."""
        super().__init__(why)
        self.answers = answers
        self.left = left


class Writer:
    """Carries out batches on `tables`; everything here runs in one thread, except for the flags."""

    def __init__(
        self,
        tables: Tables,
        space: Space,
        layout: Layout,
        *,
        refuse_new: Callable[[Sequence[Operation]], None],
        interrupt_reader: Callable[[], None],
        checkpoint_after: int,
        clock: Callable[[], float],
    ) -> None:
        """`refuse_new` answers those of these and all waiting operations that add a message:
        another program's lock has lasted too long. `checkpoint_after` is in pages of the log.
        """
        self._tables = tables
        self._space = space
        self._layout = layout
        self._refuse_new = refuse_new
        self._interrupt_reader = interrupt_reader
        self._checkpoint_after = checkpoint_after
        self._clock = clock
        self._checkpointed = 0  # pages written when the log was last emptied
        #: Waiting for another program's lock.
        self.busy = False
        #: ... for longer than a new message waits.
        self.busy_long = False
        #: No one waits for an answer any more: give up.
        self.stopping = False

    def carry_out(self, batch: Sequence[Operation]) -> Answers:
        """Commit a batch, however long another program's lock lasts; raises WriterDead."""
        started = time.monotonic()
        try:
            while True:
                try:
                    return self._carry_out(batch)
                except apsw.BusyError:
                    batch = self._wait_out(batch, started)
        finally:
            if self.busy:
                self.busy = self.busy_long = False
                log.info("spool_unlocked", seconds=round(time.monotonic() - started, 1))

    def _carry_out(self, batch: Sequence[Operation]) -> Answers:
        try:
            return self._commit(batch)
        except apsw.BusyError:
            raise
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.FullError) as error:
            if isinstance(error, apsw.FullError) or _is_full(error):
                return self._commit_without_new(batch)
            raise self._die(error, [], batch) from error
        except (apsw.CantOpenError, OSError) as error:
            if _is_full(error):
                return self._commit_without_new(batch)
            if isinstance(error, OSError) and error.errno not in _NO_DESCRIPTORS:
                raise self._die(error, [], batch) from error
            log.error("spool_out_of_descriptors", error=str(error))
            return self._one_by_one(batch)
        # One operation that cannot be done must not affect the others
        except Exception:
            return self._one_by_one(batch)

    def checkpoint(self) -> None:
        """Move the log into the database when it has grown; raises WriterDead.

        SQLite's own checkpoint would forget a failed fsync and retry it.
        """
        written: int = self._tables.connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]
        if written - self._checkpointed < self._checkpoint_after:
            return
        try:
            self._tables.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.FullError:
            self._space.note_full(time.monotonic())
            self._space.give_up_reserve()
        except apsw.BusyError:
            return
        except (apsw.Error, OSError) as error:
            raise self._die(error, [], []) from error
        self._checkpointed = written

    # --- one transaction

    def _commit(self, batch: Sequence[Operation]) -> Answers:
        connection = self._tables.connection
        effects = Effects()
        connection.execute("BEGIN IMMEDIATE")
        try:
            answers = run_batch(self._tables, batch, effects)
            if effects.sync_folder:
                self._tables.bodies.sync()
            connection.execute("COMMIT")
        except BaseException:
            self._tables.rolled_back()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._after_commit(effects)
        return answers

    def _after_commit(self, effects: Effects) -> None:
        self._tables.adopted |= effects.adopted
        self._tables.adopted -= effects.left
        for path in effects.unlink:
            with contextlib.suppress(OSError):  # an unreferenced file: the next start removes it
                path.unlink()
        for queue_id, why in effects.damaged:
            log.error(
                "body_damaged",
                queue_id=queue_id,
                error=why,
                hint="Not sent; tried again later. Restore the body, or drop the message.",
            )

    # --- another program's lock

    def _wait_out(self, batch: Sequence[Operation], started: float) -> Sequence[Operation]:
        """SQLite has waited a second: what to try again."""
        if not self.busy:
            self.busy = True
            log.error(
                "spool_locked",
                database=str(self._layout.database),
                hint="Another program holds a lock on it (a shell, a backup): end that program."
                " Until then new mail is answered 451 and nothing is delivered.",
            )
        if self.stopping:
            raise self._die(apsw.BusyError("locked by another program"), [], batch)
        if time.monotonic() - started < BUSY_PATIENCE:
            return batch
        self.busy_long = True
        self._refuse_new([op for op in batch if added(op) is not None])
        return [op for op in batch if added(op) is None]

    # --- a full volume

    def _commit_without_new(self, batch: Sequence[Operation]) -> Answers:
        """Refuse what is new; what makes room gets the log's space, then the reserve."""
        self._space.note_full(time.monotonic())
        answers: Answers = [(op, FULL) for op in batch if added(op) is not None]
        rest = [op for op in batch if added(op) is None]
        if not rest:
            return answers
        done = self._commit_in_less_space(rest, answers)
        if done is None and self._space.give_up_reserve():
            done = self._commit_in_less_space(rest, answers)
        if done is None:
            raise self._die(
                apsw.FullError("the volume is full, and removals cannot be committed either"),
                answers,
                rest,
            )
        return answers + done

    def _commit_in_less_space(self, rest: Sequence[Operation], answers: Answers) -> Answers | None:
        """Move the log into the database, which frees its space, and retry; None if that was not
        enough.
        """
        self._interrupt_reader()
        try:
            self._tables.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.FullError, apsw.BusyError):
            pass  # a reader uses the log, or the database cannot grow: perhaps the log can
        except (apsw.Error, OSError) as error:
            if not _is_full(error):
                raise self._die(error, answers, rest) from error
        try:
            return self._commit(rest)
        except (apsw.FullError, apsw.BusyError):
            return None
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, OSError) as error:
            if _is_full(error):
                return None
            raise self._die(error, answers, rest) from error
        except Exception:
            return self._one_by_one(rest)

    # --- an operation that cannot be done

    def _one_by_one(self, batch: Sequence[Operation]) -> Answers:
        answers: Answers = []
        for n, op in enumerate(batch):
            try:
                answers += self._commit_alone(op)
            except WriterDead as dead:
                raise WriterDead(str(dead), answers, batch[n:]) from dead
        return answers

    def _commit_alone(self, op: Operation) -> Answers:
        while True:
            try:
                return self._commit([op])
            except (apsw.CantOpenError, OSError, apsw.BusyError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_DESCRIPTORS:
                    raise self._die(error, [], [op]) from error
                if not isinstance(op, Finish):
                    return [(op, FAILED)]
                if self.stopping:
                    raise self._die(error, [], [op]) from error
                time.sleep(_PAUSE)  # the end of an attempt is kept until it can be stored
            except apsw.FullError:
                return self._commit_without_new([op])
            except (apsw.IOError, apsw.CorruptError, apsw.NotADBError) as error:
                if _is_full(error):
                    return self._commit_without_new([op])
                raise self._die(error, [], [op]) from error
            except Exception as error:
                log.exception("internal_error")
                if isinstance(op, Finish):
                    # its lease would never end: the next start finds it
                    raise self._die(error, [], [op]) from error
                return [(op, FAILED)]

    # --- the end

    def _die(self, error: Exception, answers: Answers, left: Sequence[Operation]) -> WriterDead:
        """Record what the next start must know, and no more."""
        why = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
                mark_damaged(self._layout, self._layout.database, why, now=self._clock())
            refused = [queue_id for op in left if (queue_id := added(op)) is not None]
            if refused:
                write_durably(self._layout.refused, json.dumps(refused))
        return WriterDead(why, answers, left)


def _is_full(error: Exception) -> bool:
    """Whether an error means that the volume is full: SQLite says so in two ways, of which one is
    that its shared memory could not grow.
    """
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
