"""The drift monitor: silent over a stream like the reference, and quick where one is not."""

import dataclasses
import json

import numpy as np
import pytest

from workers.drift import CHECKS, WINDOW, DriftMonitor, reference

QUANTITIES = {
    *("z_median", "width", "flagged", "unusual", "u", "g", "r", "i", "z"),
    *("u-g", "g-r", "r-i", "i-z"),
}


@dataclasses.dataclass
class Found:
    """The fields of estimates that are watched."""

    z_median: np.ndarray
    z_err68_low: np.ndarray
    z_err68_high: np.ndarray
    quality_flag: np.ndarray
    out_of_domain: np.ndarray


def night(n, rng, shift=(0, 0, 0, 0, 0), flagged=0.02):
    """Estimates of galaxies whose colours follow their redshift, and their magnitudes.

    `shift` [5] magnitudes are added before the redshift is "estimated" from a colour.
    """
    z = rng.gamma(4, 0.03, n)
    r = rng.normal(17.5, 1.2, n)
    color = [1.8, 0.5, 0, -0.3, -0.5] + z[:, None] * [4, 3, 0, -1, -1.5]
    magnitudes = r[:, None] + color + rng.normal(0, 0.08, (n, 5)) + np.asarray(shift)
    estimated = np.abs((magnitudes[:, 1] - magnitudes[:, 2] - 0.5) / 3 + rng.normal(0, 0.01, n))
    width = rng.gamma(9, 0.002, n) * (1 + estimated)
    found = Found(
        estimated,
        estimated - width,
        estimated + width,
        np.where(rng.random(n) < flagged, 4, 0),
        rng.random(n).astype(np.float32),
    )
    return found, magnitudes.astype(np.float32)


@pytest.fixture(scope="module")
def known():
    return reference(*night(8000, np.random.default_rng(1)))


def items_until_alarm(monitor, batches):
    for found, magnitudes in batches:
        monitor.observe(found, magnitudes)
        if monitor.alarm:
            return monitor.items
    return None


def test_a_reference_is_small_and_goes_through_json(known):
    assert set(known["quantities"]) == QUANTITIES
    text = json.dumps(known, allow_nan=False)
    assert len(text) < 12_000
    assert json.loads(text) == known
    assert all(sum(each["counts"]) == 8000 for each in known["quantities"].values())


@pytest.mark.parametrize("matters", [0.0, 0.05])
def test_a_stream_like_the_reference_sets_no_alarm_in_999_of_1000_windows(matters):
    rng, alarms, windows = np.random.default_rng(2), 0, 0
    for _ in range(10):
        # Each night has a reference of its own: it is a sample, and errs as well.
        monitor = DriftMonitor(reference(*night(5000, rng)), matters=matters)
        for _ in range(20):
            for _ in range(CHECKS):
                monitor.observe(*night(WINDOW // CHECKS, rng))
                alarms += bool(monitor.alarm)
            windows += 1
    # Expected are at most 0.2 in these 200; more than 2 would be a chance of 1 in 870.
    assert windows == 200
    assert alarms <= 2


def test_rare_flags_set_no_alarm_by_being_rare():
    rng, alarms = np.random.default_rng(3), 0
    monitor = DriftMonitor(reference(*night(2000, rng, flagged=0.001)), matters=0.0)
    for _ in range(600):
        monitor.observe(*night(500, rng, flagged=0.001))
        alarms += bool(monitor.alarm)
    assert alarms == 0


@pytest.mark.parametrize("band", range(5))
def test_a_zero_point_that_moves_by_a_tenth_is_noticed_within_a_window(known, band):
    rng = np.random.default_rng(4 + band)
    monitor = DriftMonitor(known)
    for _ in range(30):
        monitor.observe(*night(500, rng))
    assert not monitor.alarm
    before = monitor.items
    shift = 0.1 * (np.arange(5) == band)
    noticed = items_until_alarm(monitor, (night(64, rng, shift) for _ in range(500)))
    assert noticed is not None
    assert noticed - before <= WINDOW
    colors = {f"{a}-{b}" for a, b in zip("ugriz", "griz", strict=False) if "ugriz"[band] in (a, b)}
    assert colors & set(monitor.alarm)


def test_swapped_bands_are_noticed_at_the_first_check(known):
    rng, monitor = np.random.default_rng(9), DriftMonitor(known)

    def swapped():
        found, magnitudes = night(64, rng)
        return found, magnitudes[:, [1, 0, 2, 3, 4]]

    noticed = items_until_alarm(monitor, (swapped() for _ in range(50)))
    assert noticed is not None
    assert noticed <= WINDOW / CHECKS + 64
    assert {"u-g", "g-r"} <= set(monitor.alarm)


def empty(n):
    """What a model makes of stamps without anything in them: always the same."""
    same = np.full(n, 0.7)
    return (
        Found(same, same - 0.3, same + 0.4, np.full(n, 21), np.ones(n, np.float32)),
        np.full((n, 5), np.nan, np.float32),
    )


def test_empty_stamps_are_noticed_among_good_ones(known):
    rng, monitor = np.random.default_rng(10), DriftMonitor(known)
    for _ in range(40):
        monitor.observe(*night(500, rng))
    before = monitor.items
    noticed = items_until_alarm(monitor, (empty(64) for _ in range(50)))
    assert noticed is not None
    assert noticed - before <= 2 * WINDOW / CHECKS
    assert {"flagged", "unusual"} <= set(monitor.alarm)


def test_an_alarm_ends_with_its_cause(known):
    rng, monitor = np.random.default_rng(11), DriftMonitor(known)
    monitor.observe(*empty(500))
    assert monitor.alarm
    for _ in range(6 * CHECKS):
        monitor.observe(*night(WINDOW // CHECKS, rng))
    assert not monitor.alarm


def test_twenty_items_are_no_alarm_whatever_they_are(known):
    monitor = DriftMonitor(known)
    monitor.observe(*empty(20))
    assert monitor.check() == ()
    state = monitor.state()
    assert state["items"] == 20
    assert state["quantities"]["flagged"]["distance"] > 0.9


def test_an_alarm_names_what_drifts_and_nothing_else(known):
    rng, monitor = np.random.default_rng(12), DriftMonitor(known)
    for _ in range(CHECKS):
        monitor.observe(*night(500, rng, flagged=0.2))
    assert monitor.alarm == ("flagged",)
    of = monitor.state()["quantities"]
    assert of["flagged"]["psi"] > 0.2
    assert of["flagged"]["distance"] == pytest.approx(0.18, abs=0.03)
    assert all(each["psi"] < 0.05 for name, each in of.items() if name != "flagged")


def test_a_difference_that_does_not_matter_is_told_and_sets_no_alarm(known):
    rng, monitor = np.random.default_rng(13), DriftMonitor(known)
    for _ in range(CHECKS * 3):
        monitor.observe(*night(500, rng, flagged=0.05))
    assert monitor.state()["quantities"]["flagged"]["p"] < 1e-6
    assert not monitor.alarm


def test_what_was_seen_long_ago_is_forgotten(known):
    rng, monitor = np.random.default_rng(14), DriftMonitor(known)
    for _ in range(100):
        monitor.observe(*night(500, rng))
    state = monitor.state()
    assert state["items"] == 50_000
    assert state["weight"] == pytest.approx(WINDOW, rel=0.06)
    assert state["weight"] ** 2 / state["squares"] == pytest.approx(2 * WINDOW, rel=0.06)
    for each in state["quantities"].values():
        assert sum(each["counts"]) == pytest.approx(state["weight"])


def test_workers_that_each_saw_too_little_find_it_together(known):
    rng = np.random.default_rng(15)
    workers = [DriftMonitor(known) for _ in range(8)]
    for monitor in workers:
        monitor.observe(*night(400, rng, shift=(0, 0.1, 0, 0, 0)))
        assert not monitor.alarm
    states = [json.loads(json.dumps(monitor.state(), allow_nan=False)) for monitor in workers]
    merged = DriftMonitor.merged(known, states)
    assert merged.items == 3200
    assert {"u-g", "g-r"} & set(merged.alarm)
    assert merged.state()["weight"] == pytest.approx(sum(each["weight"] for each in states))


def test_states_add_up_to_what_one_worker_would_have_seen(known):
    rng = np.random.default_rng(16)
    parts = [night(300, rng) for _ in range(4)]
    workers = [DriftMonitor(known) for _ in parts]
    for monitor, part in zip(workers, parts, strict=True):
        monitor.observe(*part)
    merged = DriftMonitor.merged(known, (each.state() for each in workers)).state()
    for name in QUANTITIES:
        together = sum(np.array(each.state()["quantities"][name]["counts"]) for each in workers)
        assert merged["quantities"][name]["counts"] == together.tolist()


def test_a_model_without_intervals_and_scores_is_watched_by_the_rest():
    rng = np.random.default_rng(17)

    def bare(n, **kwargs):
        found, magnitudes = night(n, rng, **kwargs)
        nan = np.full(n, np.nan)
        return (
            dataclasses.replace(found, z_err68_low=nan, z_err68_high=nan, out_of_domain=nan),
            magnitudes,
        )

    monitor = DriftMonitor(reference(*bare(5000)))
    for _ in range(CHECKS):
        monitor.observe(*bare(500))
    assert not monitor.alarm
    for _ in range(CHECKS):
        monitor.observe(*bare(500, shift=(0, 0, 0.3, 0, 0)))
    assert {"g-r", "r-i"} <= set(monitor.alarm)
    assert not {"width", "unusual"} & set(monitor.alarm)


def test_nothing_seen_is_no_alarm(known):
    monitor = DriftMonitor(known)
    monitor.observe(*night(0, np.random.default_rng(1)))
    assert monitor.check() == ()
    assert all(each["p"] == 1 for each in monitor.state()["quantities"].values())
    assert DriftMonitor.merged(known, []).alarm == ()
