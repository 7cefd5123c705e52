"""What is wrong with the input is said in one line that says what to do, and the exit shows it."""

import base64
import json
import zlib

import lookback
import pytest

from dispatcher.demo import one_band_alerts
from ingest.codecs.notice import ImageAddress, InlineImage, NewImage
from sinks.deadletters import DeadLetter
from workers.training.render import render_galaxies


def notice(stamp):
    return NewImage(id=1, survey="S", ra=1.0, dec=1.0, stamp=stamp).to_bytes()


def bomb(gigabytes):
    """Gzip of zeros, made a gigabyte at a time: members of a gzip file may follow each other."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 24)
    one = b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    return one * gigabytes


def complaint(*arguments, code, run=lookback.here):
    _, errors = run(*arguments, code=code)
    lines = [line for line in errors.splitlines() if not line.startswith("{")]  # not the log
    (line,) = lines
    assert line.startswith("lookback: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "absent"), "absent does not exist: give a folder"),
        (("run", "{tmp}"), "holds no events: files that end in .avro"),
        (("run", "{tmp}/*.avro"), "holds no events"),
        (("run", "{night}", "--settings", "absent.toml"), "check the path given with --settings"),
        (("run", "{night}", "--settings", "{tmp}/wrong.toml"), "batch.itms is not a setting"),
        (("run", "{night}", "--settings", "{tmp}/ending.toml"), "no sink has this ending"),
        (("run", "{night}", "--settings", "{tmp}/weights.toml"), "one of the shipped models"),
        (("run", "{night}", "--settings", "{tmp}/schemas.toml"), "not a folder with writer schem"),
        (("reconcile", "{night}", "--to", "{tmp}/nowhere"), "give the one that `lookback run`"),
        (("inspect", "{night}", "--offset", "99999"), "has no event at offset 99999"),
        (("train", "no-such-recipe", "--data", ".", "--out", "{tmp}/t"), "galaxies"),
        (("train", "encoder", "--data", "{tmp}", "--out", "{tmp}/t"), "galaxies.npz"),
        (("evaluate", "absent.npz"), "absent.npz"),
        (("estimate", "absent.npz", "--to", "{tmp}/t.csv"), "absent.npz"),
        (("import", "absent.pt", "--to", "{tmp}/t.safetensors"), "absent.pt"),
        (("prepare", "{tmp}", "--out", "{tmp}/data"), "quasars_ugriz64.npz"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_cannot_be_started_says_why(night, tmp_path, arguments, says):
    (tmp_path / "wrong.toml").write_text("[batch]\nitms = 3\n")
    (tmp_path / "ending.toml").write_text('[sinks]\nrequired = ["results.csv"]\n')
    (tmp_path / "weights.toml").write_text('[workers]\nweights = "absent.safetensors"\n')
    (tmp_path / "schemas.toml").write_text('[ingest]\nschemas = "absent"\n')
    given = [each.format(tmp=tmp_path, night=night) for each in arguments]
    if given[0] == "run":
        given += ["--to", str(tmp_path / "out")]
    assert says in complaint(*given, code=2)


def test_the_command_ends_as_it_does_in_this_process(tmp_path):
    absent, output = tmp_path / "absent", tmp_path / "out"
    given = {"code": 2, "run": lookback.call}
    assert "absent does not exist" in complaint("run", absent, "--to", output, **given)


PACKET = one_band_alerts(2, seed=1)[1]
BAD = {
    "truncated.avro": (PACKET[:-300], "truncated"),
    "schema.avro": (b"\x00\x00\x00\x23\x28" + bytes(100), "unknown_schema"),
    "bomb.json": (None, "too_large"),
    "outside.json": (notice(ImageAddress(url="file:///etc/passwd")), "address_refused"),
    "host.json": (notice(ImageAddress(url="http://127.0.0.1:1/a.npz")), "address_refused"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder that holds nothing but them."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (body, _) in BAD.items():
        (folder / name).write_bytes(body or packed_bomb())
    return folder


def packed_bomb():
    packed = base64.b64encode(bomb(10)).decode()  # ten gigabytes in ten megabytes
    return notice(InlineImage(encoding="fits", data=packed))


@pytest.mark.parametrize("name", BAD)
def test_an_event_that_cannot_be_read_says_why(bad, tmp_path, name):
    (tmp_path / name).symlink_to(bad / name)
    assert f"dead letter, {BAD[name][1]}" in complaint("inspect", tmp_path, code=1)


def test_a_run_keeps_every_event_that_cannot_be_read_and_says_how_many(bad, tmp_path):
    line = complaint("run", bad, "--to", tmp_path, code=1, run=lookback.call)
    assert f"{len(BAD)} of {len(BAD)} events became dead letters" in line
    letters = map(DeadLetter.from_json, lookback.dead_letters(tmp_path).values())
    kept = {letter.body: letter.reason for letter in letters}
    assert kept == {(bad / name).read_bytes(): reason for name, (_, reason) in BAD.items()}


def test_a_packed_stamp_that_is_a_bomb_costs_no_memory(tmp_path):
    """Where the event names a file: nothing is expanded beyond the limit either."""
    import resource

    (tmp_path / "stamp.fits").write_bytes(bomb(10))
    source = tmp_path / "night.jsonl"
    source.write_bytes(notice(ImageAddress(url=str(tmp_path / "stamp.fits"))) + b"\n")
    settings = tmp_path / "lookback.toml"
    settings.write_text(f'[ingest]\nallow = ["{tmp_path}"]\n')
    given = "inspect", source, "--settings", settings
    assert "too_large" in complaint(*given, code=1, run=lookback.call)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 << 20  # KiB


def test_good_events_among_bad_ones_are_answered(tmp_path):
    source = tmp_path / "night.jsonl"
    good = notice(InlineImage.of_pixels(render_galaxies(1, 1).images[0]))
    source.write_bytes(b"\n".join([good, b"rubbish", good[:100]]) + b"\n")
    settings = tmp_path / "lookback.toml"
    settings.write_text("[dead_letters]\nmax_ratio = 0.9\n")
    given = ("run", source, "--to", tmp_path / "out", "--settings", settings)
    summary = lookback.figures(*given)
    assert summary["books"]["written"] == 1
    assert summary["books"]["dead"] == 2
    assert json.dumps(summary)
