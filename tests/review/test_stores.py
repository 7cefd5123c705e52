"""What every store of held estimates does, and what a file does beyond that."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from held import decision, estimate, held, key

from dispatcher.errors import SettingsError
from dispatcher.review import sqlite
from dispatcher.review.memory import MemoryReview
from dispatcher.review.sqlite import SqliteReview
from sinks.errors import NoRoom, SinkRefused, SinkUnavailable
from sinks.record import Review, Status


@pytest.fixture(params=["memory", "file"])
async def store(request, tmp_path):
    made = MemoryReview() if request.param == "memory" else SqliteReview(tmp_path / "review.sqlite")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def file(tmp_path):
    made = SqliteReview(tmp_path / "review.sqlite")
    await made.open()
    yield made
    await made.close()


async def test_what_is_held_is_found_as_it_was(store):
    await store.hold([held(1)])
    assert await store.find(key(1)) == held(1)
    assert await store.find(key(2)) is None
    assert await store.counts() == {Review.WAITING: 1}
    assert await store.due(10) == []


async def test_it_is_listed_in_pages_what_waits_longest_first_and_without_pictures(store):
    await store.hold([held(n) for n in (3, 1, 2, 4)])
    await store.decide(key(3), decision(when=300.0))
    await store.decide(key(4), decision(when=400.0))
    total, found = await store.listing(Review.WAITING, 0, 1)
    assert (total, [each.record.result_id for each in found]) == (2, [key(1)])
    assert (found[0].pz, found[0].stamp) == (None, None)
    _, rest = await store.listing(Review.WAITING, 1, 10)
    assert [each.record.result_id for each in rest] == [key(2)]
    _, decided = await store.listing(Review.APPROVED, 0, 10)
    assert [each.record.result_id for each in decided] == [key(4), key(3)]
    total, everything = await store.listing(None, 0, 10)
    assert (total, len(everything)) == (4, 4)


async def test_what_was_published_long_ago_can_be_forgotten_and_nothing_else(store):
    await store.hold([held(n) for n in (1, 2, 3, 4)])
    for n in (1, 2, 3):
        await store.decide(key(n), decision())
    await store.published([key(1)], 1000.0)
    await store.published([key(2)], 2000.0)
    assert await store.forget(2000.0) == 1
    assert await store.find(key(1)) is None
    assert [await store.find(key(n)) is not None for n in (2, 3, 4)] == [True] * 3
    assert await store.counts() == {Review.APPROVED: 2, Review.WAITING: 1}
    assert [each.record.result_id for each in await store.due(10)] == [key(3)]
    assert await store.forget(2000.0) == 0


async def test_a_decision_is_kept_until_its_row_is_published_and_after_that(store):
    await store.hold([held(n) for n in (1, 2, 3)])
    after = await store.decide(key(2), decision(Review.REJECTED, "bob", "a star", 300.0))
    assert (after.standing, after.by, after.note, after.t_decided) == (
        Review.REJECTED,
        "bob",
        "a star",
        300.0,
    )
    await store.decide(key(1), decision(when=400.0))
    due = await store.due(10)
    assert [each.record.result_id for each in due] == [key(2), key(1)]
    assert await store.due(1) == due[:1]
    await store.published([key(2)], 500.0)
    assert [each.record.result_id for each in await store.due(10)] == [key(1)]
    assert (await store.find(key(2))).t_published == 500.0
    assert await store.counts() == {Review.WAITING: 1, Review.APPROVED: 1, Review.REJECTED: 1}


async def test_the_first_decision_stands(store):
    await store.hold([held(1)])
    await store.decide(key(1), decision())
    for later in (decision(Review.REJECTED, "bob"), decision(Review.WAITING, "bob", "wait")):
        with pytest.raises(SettingsError, match=f"ann has approved {key(1)} already"):
            await store.decide(key(1), later)
    assert (await store.find(key(1))).standing is Review.APPROVED


async def test_what_was_never_held_cannot_be_decided(store):
    with pytest.raises(SettingsError, match="was held for review"):
        await store.decide(key(9), decision())


async def test_a_note_decides_nothing_and_stays_until_there_is_another(store):
    await store.hold([held(1)])
    await store.decide(key(1), decision(Review.WAITING, "bob", "looks blended"))
    noted = await store.find(key(1))
    assert (noted.standing, noted.by, noted.note, noted.t_decided) == (
        Review.WAITING,
        "bob",
        "looks blended",
        None,
    )
    after = await store.decide(key(1), decision(by="ann"))
    assert (after.by, after.note) == ("ann", "looks blended")


async def test_an_event_that_comes_again_changes_nothing_that_was_said(store):
    await store.hold([held(1), held(2)])
    await store.decide(key(1), decision())
    await store.hold([replace(held(1), t_held=999.0), held(2)])
    assert (await store.counts()).total() == 2
    found = await store.find(key(1))
    assert (found.standing, found.t_held) == (Review.APPROVED, 101.0)


async def test_a_published_row_whose_event_comes_again_is_published_again(store):
    await store.hold([held(1)])
    await store.decide(key(1), decision())
    await store.published([key(1)], 300.0)
    await store.hold([held(1)])
    (due,) = await store.due(10)
    assert (due.standing, due.by) == (Review.APPROVED, "ann")


async def test_a_scan_gives_what_no_sink_has_to_have_yet(store, monkeypatch):
    monkeypatch.setattr(sqlite, "_PAGE", 2)
    await store.hold([held(n) for n in range(7)])
    for n in (1, 2):
        await store.decide(key(n), decision())
    await store.published([key(1)], 300.0)
    found = [each async for each in store.scan()]
    assert [each.result_id for each in found] == [key(n) for n in (0, 2, 3, 4, 5, 6)]
    assert found[0] == (key(0), "t", "p", 0, "ok")


def test_a_row_says_what_was_decided():
    approved = held(1).after(decision(note="fine")).published(500.0)
    assert approved == estimate(
        1,
        review=Review.APPROVED,
        review_by="ann",
        review_note="fine",
        t_reviewed=200.0,
        t_published=500.0,
    )


def test_a_rejected_row_has_no_redshift_and_says_who_and_why():
    row = held(1).after(decision(Review.REJECTED, note="a star")).published(500.0)
    assert (row.status, row.reason) == (Status.REJECTED, "rejected by ann: a star")
    assert (row.review, row.review_by, row.review_note) == ("rejected", "ann", "a star")
    fields = row.to_json()
    redshift = {name for name in fields if name.startswith(("z_m", "z_err"))} - {"z_measure"}
    assert len(redshift) == 7
    assert {fields[name] for name in redshift} == {None}
    assert row.out_of_domain == 0.99


async def test_a_file_keeps_it_and_other_processes_may_decide(file, tmp_path):
    await file.hold([held(1), held(2)])
    other = SqliteReview(tmp_path / "review.sqlite")
    await other.open()
    await other.decide(key(1), decision())
    with pytest.raises(SettingsError, match="ann has approved"):
        await file.decide(key(1), decision(Review.REJECTED, "bob"))
    await other.close()
    await file.close()
    await file.open()
    assert [each.record.result_id for each in await file.due(10)] == [key(1)]
    assert (await file.find(key(2))).stamp == "{}"


async def test_a_file_that_is_locked_or_closed_or_full_is_away_for_now(file, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_WAIT_S", 0.0)
    await file.hold([held(1)])
    await file.close()
    with pytest.raises(SinkUnavailable, match="not open"):
        await file.counts()
    await file.open()
    with closing(sqlite3.connect(tmp_path / "review.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailable, match="locked"):
            await file.decide(key(1), decision())
    file._db.execute("PRAGMA max_page_count=1")
    with pytest.raises(NoRoom, match="make room"):
        await file.hold([replace(held(n), stamp="x" * 10_000) for n in range(100)])
    assert (await file.counts()).total() == 1


async def test_a_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "review.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(SinkRefused, match="cannot be used for review"):
        await SqliteReview(tmp_path / "review.sqlite").open()
