"""Everything real that there is: quasar cutouts, every alert packet, the poison."""

import json
import shutil
from collections import Counter

import lookback
import numpy as np
import pytest

from ingest.codecs.notice import InlineImage, NewImage

pytestmark = [pytest.mark.survey_data, pytest.mark.timeout(400)]

PACKETS = 178 + 34 + 66 + 2  # ZTF, ZTF of one object, LSST, DECam and WINTER

POISON = {
    "516401801315010009.avro": "bad_sync",
    "516434762915010006.avro": "bad_sync",
    "516442330015015017.avro": "bad_sync",
    "516442805615015004.avro": "bad_sync",
    "516476004815015005.avro": "bad_sync",
    "121540793515135009.avro": "bad_sync",
    "121540793515135010.avro": "bad_sync",
    "ipac_jpeg_cutout_121540793515135000.avro": "bad_stamp",
    "ipac_jpeg_cutout_121540793515135001.avro": "bad_stamp",
    "ipac_jpeg_cutout_121540793515135002.avro": "bad_stamp",
}


@pytest.fixture(scope="module")
def archive(survey_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    for each in ("ztf", "lsst", "other", "one_object", "poison"):
        shutil.copytree(survey_data / "alerts" / each, folder / each)
    with np.load(survey_data / "sdss" / "quasars_ugriz64.npz", allow_pickle=False) as quasars:
        stored = {name: quasars[name] for name in ("images", "mag", "ra", "dec", "objid", "z")}
    with (folder / "quasars.jsonl").open("wb") as file:
        for n in range(len(stored["z"])):
            notice = NewImage(
                id=int(stored["objid"][n]),
                survey="SDSS",
                ra=float(stored["ra"][n]) % 360,
                dec=float(stored["dec"][n]),
                magnitudes=tuple(float(each) for each in stored["mag"][n]),
                stamp=InlineImage.of_pixels(stored["images"][n]),
            )
            file.write(notice.to_bytes() + b"\n")
    return folder


@pytest.fixture(scope="module")
def ran(archive, survey_data, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    settings = output / "lookback.toml"
    schemas = survey_data / "alerts" / "schemas" / "lsst"
    settings.write_text(f'[ingest]\nschemas = "{schemas}"\n[workers]\nweights = "quasars"\n')
    summary = lookback.figures("run", archive, "--to", output, "--settings", settings)
    return output, settings, summary


def test_nothing_is_lost_and_nothing_is_doubled(archive, ran):
    output, settings, summary = ran
    proof = lookback.figures("reconcile", archive, "--to", output, "--settings", settings)
    assert proof["findings"] == []
    assert proof["books"] == summary["books"]
    notices = (archive / "quasars.jsonl").read_bytes().splitlines()
    repeated = len(notices) - len(set(notices))
    books = summary["books"]
    assert books["balanced"]
    assert books["received"] == 2006 + PACKETS + 10
    rows = lookback.results(output).values()
    foreign = sum(row["status"] == "out_of_domain" for row in rows)
    assert foreign < 100, "nearly all look like the quasars that they are"
    assert books["written"] == 2006 - repeated - foreign
    assert books["duplicate"] == repeated
    assert books["not_applicable"] == PACKETS + foreign
    assert books["dead"] == 10


def test_each_poison_packet_is_a_dead_letter_with_its_reason_and_its_bytes(archive, ran):
    output, _, _ = ran
    letters = lookback.dead_letters(output)
    assert {
        place[0].removeprefix("poison/"): each["reason"] for place, each in letters.items()
    } == (POISON)
    for (partition, _), letter in letters.items():
        from sinks.deadletters import DeadLetter

        assert DeadLetter.from_json(letter).body == (archive / partition).read_bytes()
        assert letter["detail"]


def test_each_packet_without_five_bands_says_so(ran):
    output, _, _ = ran
    rows = [row for row in lookback.results(output).values() if row["survey"] != "SDSS"]
    assert {row["status"] for row in rows} <= {"no_stamp", "solar_system"}
    assert all(row["reason"] for row in rows)
    surveys = Counter(row["survey"] for row in rows)
    assert surveys["DECam"] == surveys["WINTER"] == 1
    assert surveys["LSST"] == 66
    assert surveys["ZTF"] >= 200


def test_ids_of_64_bits_survive(survey_data, ran):
    output, _, _ = ran
    with np.load(survey_data / "sdss" / "quasars_ugriz64.npz", allow_pickle=False) as quasars:
        expected = {str(each) for each in quasars["objid"]}
    rows = lookback.results(output).values()
    assert {row["alert_id"] for row in rows if row["survey"] == "SDSS"} == expected
    candids = {row["source_id"] for row in rows if row["survey"] == "ZTF"}
    assert 1127561442515015001 in candids


def test_the_redshifts_are_those_of_the_quasars(survey_data, ran):
    """Not a measure of the model (most of these rows trained it), but of the whole road."""
    output, _, _ = ran
    with np.load(survey_data / "sdss" / "quasars_ugriz64.npz", allow_pickle=False) as quasars:
        true = dict(zip(map(str, quasars["objid"]), quasars["z"].tolist(), strict=True))
    rows = [row for row in lookback.results(output).values() if row["status"] == "ok"]
    dz = np.array([(row["z_median"] - true[row["alert_id"]]) for row in rows])
    dz /= 1 + np.array([true[row["alert_id"]] for row in rows])
    assert np.median(np.abs(dz)) < 0.04
    assert (np.abs(dz) > 0.15).mean() < 0.10


def test_one_real_event_can_be_inspected(archive, ran, survey_data):
    _, settings, _ = ran
    found = lookback.figures(
        "inspect", archive, "--partition", "quasars.jsonl", "--offset", 3, "--settings", settings
    )
    assert found["event"]["survey"] == "SDSS"
    assert found["verdict"]["kind"] == "estimated"
    packet = min((archive / "ztf" / "20231012").iterdir()).relative_to(archive)
    found = lookback.figures("inspect", archive, "--partition", packet, "--settings", settings)
    assert found["not_applicable"].startswith("no_stamp")
    assert json.dumps(found)
