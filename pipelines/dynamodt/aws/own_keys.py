"""The keys of what a run has put itself: under other keys, or as the version's own rows.

What comes after an export (windows, or a last scan) meets them like anybody's, and is to pass them over: a version
never transforms what it has made. They are kept as hashes of 16 bytes, sorted, in one object for each pass that needs
them: as much memory of a worker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from itertools import chain

from dynamodt.aws.journal import Journal
from dynamodt.aws.reads import key_text
from dynamodt.aws.state import State
from dynamodt.aws.storage import Storage
from dynamodt.core.counted import counted_parts
from dynamodt.core.diff import parts_of
from dynamodt.core.places import Part, journal_prefix, part_name, part_of, puts_prefix, void_name
from dynamodt.model import Change, Claim, Image, Insert, Job

_SIZE = 16
_READERS = 10  # at a time: a client's connections


class OwnKeys(Sequence[bytes]):
    """Hashed keys, of which one can ask whether an item's is `own`."""

    def __init__(self, kept: bytes = b"") -> None:
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept) // _SIZE

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]  # no slices
        if index >= len(self):
            raise IndexError(index)
        return self._kept[index * _SIZE : (index + 1) * _SIZE]

    def own(self, key: Image) -> bool:
        """Whether the run has put an item of this key."""
        wanted = hashed(key)
        index = bisect_left(self, wanted)
        return index < len(self) and self[index] == wanted


def hashed(key: Image) -> bytes:
    """A key as it is kept."""
    return blake2b(key_text(key).encode(), digest_size=_SIZE).digest()


class NotingJournal(Journal):
    """A journal that notes what its parts put, for the passes that come after."""

    def __init__(self, storage: Storage, job: Job) -> None:
        super().__init__(storage, job.table, journal_prefix(job))
        self._puts = puts_prefix(job)

    def write(self, unit: int, page: int, epoch: int, part: int, changes: Sequence[Change], micros: int) -> str:
        """The keys first: whoever finds the part announced, finds them too."""
        parts = chain.from_iterable(map(parts_of, changes))
        keys = sorted(hashed(one.key) for one in parts if isinstance(one, Insert))
        if keys:
            self._storage.write(part_name(self._puts, unit, page, epoch, part), b"".join(keys))
        return super().write(unit, page, epoch, part, changes, micros)


def journal_of(storage: Storage, job: Job) -> Journal:
    """Where a job that has a journal keeps it."""
    if job.followed:
        return NotingJournal(storage, job)
    return Journal(storage, job.target or job.table, journal_prefix(job))


def load(storage: Storage, job: Job) -> OwnKeys:
    """What the job is to pass over."""
    return OwnKeys(storage.read(job.passes_over) or b"" if job.passes_over else b"")


def gathered(storage: Storage, state: State, passes: Iterable[Job]) -> bytes:
    """What these passes, which are over, have put; empty: nothing."""
    found: set[bytes] = set()
    for job in passes:
        found.update(_of_pass(storage, state, job))
    return b"".join(sorted(found))


def _of_pass(storage: Storage, state: State, job: Job) -> Iterator[bytes]:
    """The journal tells which pages count, and which of their changes had no effect: somebody had the key already."""
    noted = [name.removeprefix(puts_prefix(job)) for name in storage.names(puts_prefix(job))]
    if not noted:
        return
    claims = {claim.unit: claim for claim in state.units(job.run).all(job.units)}
    counted = counted_parts((journal_prefix(job) + name for name in noted), claims)
    journal = Journal(storage, job.table, journal_prefix(job))
    with ThreadPoolExecutor(_READERS, thread_name_prefix="own-keys") as pool:
        for keys in pool.map(partial(_of_part, storage, journal, job, claims), counted):
            yield from keys


def _of_part(storage: Storage, journal: Journal, job: Job, claims: dict[int, Claim], name: str) -> set[bytes]:
    part = part_of(name)
    kept = storage.read(puts_prefix(job) + name.removeprefix(journal_prefix(job))) or b""
    return set(OwnKeys(kept)) - _void(journal, job, part, claims[part.unit])


def _void(journal: Journal, job: Job, part: Part, claim: Claim) -> set[bytes]:
    """A note of void keys speaks of all that was announced until then: by its own owner, and by those before."""
    prefix, epochs = journal_prefix(job), range(part.epoch, claim.epoch + 1)
    names = (void_name(prefix, part.unit, part.page, epoch) for epoch in epochs)
    return {hashed(key) for name in names for key in journal.read_void(name)}
