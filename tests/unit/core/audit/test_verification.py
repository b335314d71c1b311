"""The verification of an audit in memory: whatever changes an entry, its order or the end is found."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from penstock.core.audit.chain import canonical_form, first_link, next_link
from penstock.core.audit.merkle import LeafRange, hash_leaf
from penstock.core.audit.notes import Checkpoint
from penstock.core.audit.verification import (
    DROP_ACTION,
    MOST_FINDINGS,
    ArchivedRange,
    AuditVerification,
    AuditVerifier,
    KeptCheckpoint,
)
from tests.budgets import examples

Entry = dict[str, Any]

ORIGIN = "penstock/id"


def audit(count: int, registry: str = "id") -> list[Entry]:
    """A chained audit."""
    link, entries = first_link(registry), []
    for seq in range(1, count + 1):
        after = {"version": str(seq)}
        entry: Entry = {"seq": seq, "at": "2026", "actor": "ann", "action": "alias.move", "model": "m", "after": after}
        link = next_link(link, canonical_form(entry))
        entries.append({**entry, "hash": link.hex()})
    return entries


def chained_again(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with hashes that follow each other, as somebody without the key can make them."""
    link, again = first_link("id"), []
    for entry in entries:
        link = next_link(link, canonical_form(entry))
        again.append({**entry, "hash": link.hex()})
    return again


def tree(entries: Sequence[Entry], begin: int = 0) -> LeafRange:
    leaves = LeafRange(begin, begin)
    for entry in entries:
        leaves.append(hash_leaf(canonical_form(entry)))
    return leaves


def checkpoint(entries: Sequence[Entry], source: str = "the file") -> KeptCheckpoint:
    return KeptCheckpoint(Checkpoint(ORIGIN, len(entries), tree(entries).root()), source)


def verified(entries: Sequence[Entry], *checkpoints: KeptCheckpoint, registry: str = "id") -> AuditVerification:
    verifier = AuditVerifier(registry, checkpoints)
    for entry in entries:
        verifier.add_entry(entry)
    return verifier.result()


def first_bad(entries: Sequence[Entry], *checkpoints: KeptCheckpoint) -> int | None:
    findings = verified(entries, *checkpoints).findings
    return findings[0].seq if findings else None


GOOD = audit(40)


def test_an_untouched_audit_is_good() -> None:
    result = verified(GOOD, checkpoint(GOOD[:10]), checkpoint(GOOD[:30]), checkpoint([]))
    assert result.findings == ()
    assert (result.entries, result.last, result.link, result.root) == (40, 40, GOOD[-1]["hash"], tree(GOOD).root())
    assert (result.covered, result.checkpoints, result.unread) == (30, 3, 0)
    assert verified([]).findings == ()


def test_an_audit_of_another_registry_is_found() -> None:
    assert verified(GOOD, registry="other").findings[0].seq == 1


def changed(entries: list[Entry], index: int) -> tuple[list[Entry], int]:
    return [*entries[:index], {**entries[index], "actor": "mallory"}, *entries[index + 1 :]], index + 1


def removed(entries: list[Entry], index: int) -> tuple[list[Entry], int]:
    return [*entries[:index], *entries[index + 1 :]], index + 1


def swapped(entries: list[Entry], index: int) -> tuple[list[Entry], int]:
    first, second = entries[index], entries[index + 1]
    pair = [{**second, "seq": first["seq"]}, {**first, "seq": second["seq"]}]
    return [*entries[:index], *pair, *entries[index + 2 :]], index + 1


def inserted(entries: list[Entry], index: int) -> tuple[list[Entry], int]:
    return [*entries[:index], {**entries[index], "action": "route.set"}, *entries[index:]], index + 1


def with_another_hash(entries: list[Entry], index: int) -> tuple[list[Entry], int]:
    return [*entries[:index], {**entries[index], "hash": "00" * 32}, *entries[index + 1 :]], index + 1


def with_no_hash(entries: list[Entry], index: int) -> tuple[list[Entry], int]:
    return [*entries[:index], {**entries[index], "hash": "nothing"}, *entries[index + 1 :]], index + 1


MUTATIONS = [changed, removed, swapped, inserted, with_another_hash, with_no_hash]


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("index", [0, 5, 20, 38])
def test_the_first_bad_entry_is_stated(
    mutation: Callable[[list[Entry], int], tuple[list[Entry], int]], index: int
) -> None:
    entries, bad = mutation(GOOD, index)
    assert first_bad(entries) == bad
    assert first_bad(entries, checkpoint(GOOD)) == bad


def mutate_field(rng: random.Random, entries: list[Entry]) -> list[Entry]:
    """Change one value of one entry, whatever its kind."""
    index = rng.randrange(len(entries))
    entry = dict(entries[index])
    name = rng.choice([name for name in entry if name != "seq"])
    value = entry[name]
    if isinstance(value, dict):
        entry[name] = rng.choice([{}, {**value, "x": None}, {"version": f"{value['version']}0"}])
    else:
        place = rng.randrange(len(value))
        entry[name] = value[:place] + chr(rng.randrange(33, 127)) + value[place:]
    return [*entries[:index], entry, *entries[index + 1 :]]


def test_random_mutations_are_all_found() -> None:
    rng = random.Random(20261130)
    for _ in range(examples(10_000)):
        entries = audit_of_twelve()
        kind = rng.randrange(3)
        if kind == 0:
            bad = mutate_field(rng, entries)
        else:
            bad, _ = MUTATIONS[rng.randrange(len(MUTATIONS))](entries, rng.randrange(len(entries) - 1))
        if kind == 2:  # by somebody who knows how hashes are made, but does not have the key
            bad = chained_again(bad)
            assert bad == entries or first_bad(bad, TWELVE) is not None
        else:
            assert first_bad(bad) is not None


_TWELVE = audit(12)
TWELVE = checkpoint(_TWELVE)


def audit_of_twelve() -> list[Entry]:
    return _TWELVE


def test_a_history_that_was_written_anew_is_not_what_a_checkpoint_signed() -> None:
    entries = chained_again([*GOOD[:24], {**GOOD[24], "actor": "mallory"}, *GOOD[25:]])
    assert first_bad(entries) is None
    finding = verified(entries, checkpoint(GOOD[:20]), checkpoint(GOOD[:30])).findings[0]
    assert finding.seq == 21
    assert "an entry from 21 to 30 is not the one that the checkpoint in the file signed" in finding.problem


def test_entries_that_are_missing_at_the_end_are_found_by_a_checkpoint_alone() -> None:
    assert first_bad(GOOD[:30]) is None
    finding = verified(GOOD[:30], checkpoint(GOOD, "the given file")).findings[0]
    assert (finding.seq, "last 10 entries are missing" in finding.problem) == (31, True)


def test_findings_are_bounded() -> None:
    entries = [{**entry, "actor": "mallory"} for entry in audit(MOST_FINDINGS + 50)]
    assert len(verified(entries).findings) == MOST_FINDINGS


def archived(entries: Sequence[Entry], begin: int) -> ArchivedRange:
    nodes = tuple(node.hex() for node in tree(entries, begin).hashes)
    return ArchivedRange(entries[0]["seq"], entries[-1]["seq"], len(entries), entries[-1]["hash"], nodes)


def test_an_audit_goes_on_after_archives() -> None:
    verifier = AuditVerifier("id", [checkpoint(GOOD[:10]), checkpoint(GOOD[:15]), checkpoint(GOOD)])
    for entry in GOOD[:10]:
        verifier.add_entry(entry)
    verifier.end_archive(archived(GOOD[:10], 0), 0)
    verifier.skip_archive(archived(GOOD[10:20], 10))
    for entry in GOOD[20:]:
        verifier.add_entry(entry)
    result = verifier.result()
    assert result.findings == ()
    assert (result.unread, result.checkpoints, result.root) == (10, 2, tree(GOOD).root())


def test_entries_before_the_chain_are_not_part_of_it() -> None:
    verifier = AuditVerifier("id", [])
    verifier.start_after(7)
    link, entry = first_link("id"), {"seq": 8, "at": "2026", "actor": "ann"}
    verifier.add_entry({**entry, "hash": next_link(link, canonical_form(entry)).hex()})
    assert verifier.result().findings == ()


@pytest.mark.parametrize(
    ("after", "is_found"),
    [
        ({"archives": 1, "before": "2026", "last": 10}, False),
        ({"archives": 1, "before": "2999", "last": 9}, True),  # of another archive
        ({"archives": 1, "before": "2026-06"}, False),  # as older releases wrote it
        ({"archives": 1, "before": "2025"}, True),
        (None, True),
    ],
)
def test_a_dropped_archive_needs_an_entry_that_says_so(after: Entry | None, is_found: bool) -> None:
    drop = {**GOOD[20], "action": DROP_ACTION, "after": after}
    entries = chained_again([*GOOD[:20], drop])
    verifier = AuditVerifier("id", [])
    verifier.drop_archive(archived(entries[:10], 0), "2026-01-02")
    for entry in entries[10:]:
        verifier.add_entry(entry)
    findings = verifier.result().findings
    assert [(finding.seq, "no entry says" in finding.problem) for finding in findings] == [(1, True)] * is_found


def test_a_changed_record_of_an_archive_is_found() -> None:
    good = archived(GOOD[:10], 0)
    others = [
        ArchivedRange(1, 10, 10, GOOD[10]["hash"], good.nodes),
        ArchivedRange(1, 10, 10, good.link, good.nodes[:1]),
        ArchivedRange(1, 11, 10, good.link, good.nodes),
        ArchivedRange(1, 10, 11, good.link, good.nodes),
    ]
    for record in others:
        verifier = AuditVerifier("id", [])
        for entry in GOOD[:10]:
            verifier.add_entry(entry)
        verifier.end_archive(record, 0)
        assert verifier.result().findings[0].seq == 1, record
    verifier = AuditVerifier("id", [checkpoint(GOOD[:20])])
    verifier.skip_archive(ArchivedRange(1, 10, 10, good.link, ("00" * 32, "11" * 32)))
    for entry in GOOD[10:20]:
        verifier.add_entry(entry)
    assert verifier.result().findings[0].seq == 1
    verifier = AuditVerifier("id", [])
    verifier.skip_archive(ArchivedRange(1, 10, 10, good.link, ()))
    verifier.report_unreadable(3, "gone")
    assert [finding.seq for finding in verifier.result().findings] == [1, 3]
