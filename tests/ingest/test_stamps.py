"""From an event to its stamp: the right pixels, the right flux, or the reason why not."""

import io
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import packets
import pytest
from astropy.io import fits
from astropy.wcs import WCS, Sip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.codecs import Decoder
from ingest.codecs.notice import HostGalaxy, ImageAddress, InlineImage
from ingest.errors import DecodeError, NotApplicable, SourceError
from ingest.events import Event, Host, InlineStamp, StampAddress
from ingest.schemas import MemorySchemas
from ingest.stamps import readers
from ingest.stamps.frames import Frames, _grid, _resample
from ingest.stamps.resolve import Resolver

SKY = np.random.default_rng(1).normal(0, 0.02, (5, 40, 40)).astype(np.float32)


def event(stamp=None, **changed):
    fields = {"survey": "S", "alert_id": 1, "ra_deg": 150.0, "dec_deg": 20.0, "revision": "r"}
    return Event(**{**fields, "stamp": stamp, **changed})


def npz(image, bands="ugriz"):
    packed = io.BytesIO()
    np.savez(packed, image=image, bands=np.array(list(bands)))
    return InlineStamp("npz", packed.getvalue())


async def why_not(resolver, asked):
    with pytest.raises(NotApplicable) as caught:
        await resolver.resolve(asked)
    return caught.value.reason


async def test_the_middle_of_an_inline_stamp_is_taken():
    stamp = await Resolver().resolve(event(npz(SKY)))
    assert stamp.image.shape == (5, 32, 32)
    assert stamp.image.dtype == np.float32
    np.testing.assert_array_equal(stamp.image, SKY[:, 4:36, 4:36])
    assert stamp.origin == "inline"


async def test_bands_are_told_by_name_and_not_by_order():
    stamp = await Resolver().resolve(event(npz(SKY[::-1], "zirgu")))
    np.testing.assert_array_equal(stamp.image, SKY[:, 4:36, 4:36])


@pytest.mark.parametrize("form", ["cube", "extensions"])
async def test_fits_stamps_are_read(form):
    hdus = fits.HDUList(
        [fits.PrimaryHDU(SKY)]
        if form == "cube"
        else [
            fits.PrimaryHDU(),
            *(fits.ImageHDU(SKY[i], name=band) for i, band in enumerate("ugriz")),
        ]
    )
    file = io.BytesIO()
    hdus.writeto(file)
    stamp = await Resolver().resolve(event(InlineStamp("fits", file.getvalue())))
    np.testing.assert_array_equal(stamp.image, SKY[:, 4:36, 4:36])


def packed(form):
    """A stamp file of every form that is read, or refused for what it could expand to."""
    file = io.BytesIO()
    if form == "npz":
        np.savez_compressed(file, image=SKY, bands=np.array(list("ugriz")))
        return file.getvalue()
    primary = fits.PrimaryHDU(SKY if form == "cube" else None)
    others = {
        "cube": [],
        "extensions": [fits.ImageHDU(SKY[i], name=band) for i, band in enumerate("ugriz")],
        "tiles": [fits.CompImageHDU(SKY, compression_type="RICE_1")],
    }
    fits.HDUList([primary, *others[form]]).writeto(file)
    return file.getvalue()


@pytest.mark.parametrize("form", ["npz", "cube", "extensions", "tiles"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_stamp_file_never_raises_anything_else(form, data):
    body = bytearray(packed(form))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(body), 3 * 2880) - 1))
        body[at] = data.draw(st.sampled_from(list(b"0123456789-TFX 'E.=\x00\xff")))
    body = bytes(body[: data.draw(st.integers(1, len(body)))])
    with suppress(DecodeError):
        readers.read(body, "npz" if form == "npz" else "fits", 1 << 24)


def header_of(shape, descr="<f4", version=1):
    """An array of which only the header is there."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def zipped(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        header_of((5, 2**40, 2**40)),
        header_of((5, 2**34)),
        header_of((2**62, 2**62)),
        header_of((10**30,)),
        header_of((-1, 32, 32)),
        header_of((0, 10**30)),
        header_of((2**60,), "<U0"),
        header_of((5, 32, 32), "|O"),
        header_of((5, 32, 32), [("x", "<f4")]),
        header_of((5, 32, 32), version=3),
        header_of((5, 32, 32)) + bytes(5 * 32 * 32 * 4 - 1),
        b"\x93NUMPY\x01\x00\x0a\x00" + b"(" * 10,
        b"\x93NUMPY\x01\x00\x0a\x00'''never  ",
        b"",
    ],
    ids=range(14),
)
def test_an_array_that_is_not_there_is_not_made_room_for(array):
    tracemalloc.start()
    with pytest.raises(DecodeError, match="array"):
        readers.read(zipped({"image.npy": array}), "npz", 1 << 24)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_numpy_packs_is_unpacked(method):
    with pytest.raises(DecodeError, match="neither stored nor deflated"):
        readers.read(zipped({"image.npy": bytes(100)}, method), "npz", 1 << 24)


def test_members_of_a_zip_file_are_few():
    many = zipped({f"{n}.npy": b"" for n in range(100)})
    with pytest.raises(DecodeError, match="more than 64 members"):
        readers.read(many, "npz", 1 << 24)


def test_a_name_that_is_no_text_is_no_zip_file():
    packed = zipped({"ä.npy": b"x"}).replace("ä".encode(), b"\xff\xff")
    with pytest.raises(DecodeError, match="not a zip file"):
        readers.read(packed, "npz", 1 << 24)


async def test_pixels_too_large_for_the_model_are_bad_ones():
    large = SKY.astype(np.float64)
    large[0, 6, 6] = 1e300
    stamp = await Resolver().resolve(event(npz(large)))
    assert np.isfinite(stamp.image).all()


def test_parts_of_a_fits_file_are_few():
    """Each costs time to read, and next to nothing to send."""
    file = io.BytesIO()
    parts = [fits.ImageHDU(np.zeros((2, 2), np.float32), name=f"x{n}") for n in range(70)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(file)
    _, bands = readers.read(file.getvalue(), "fits", 1 << 24)
    assert len(bands) == 63


def test_compressed_tiles_are_not_expanded():
    with pytest.raises(DecodeError, match="without an image"):
        readers.read(packed("tiles"), "fits", 1 << 24)


async def test_magnitudes_of_the_survey_are_kept_and_what_is_none_is_not_a_number():
    given = (20.0, 19.0, float("inf"), 1e300, 17.2)
    stamp = await Resolver().resolve(event(npz(SKY), magnitudes=given))
    assert stamp.magnitudes.dtype == np.float32
    assert stamp.magnitudes[[0, 1, 4]].tolist() == pytest.approx([20.0, 19.0, 17.2])
    assert np.isnan(stamp.magnitudes[[2, 3]]).all()
    assert np.isnan((await Resolver().resolve(event(npz(SKY)))).magnitudes).all()


async def test_single_bad_pixels_are_repaired_and_holes_are_not():
    resolver = Resolver()
    blemished = SKY.copy()
    blemished[2, 5, 5] = np.nan
    blemished[0, 30, 20] = np.inf
    stamp = await resolver.resolve(event(npz(blemished)))
    assert np.isfinite(stamp.image).all()
    assert np.abs(stamp.image).max() < 0.2
    holed = SKY.copy()
    holed[1, 4:10] = np.nan
    assert await why_not(resolver, event(npz(holed))) == "bad_cutout"
    middle = SKY.copy()
    middle[1, 20, 20] = np.nan
    assert await why_not(resolver, event(npz(middle))) == "bad_cutout"


async def test_what_cannot_be_asked_says_why():
    resolver = Resolver()
    assert await why_not(resolver, event(None)) == "no_stamp"
    assert await why_not(resolver, event(None, not_applicable="solar_system")) == "solar_system"
    assert await why_not(resolver, event(npz(SKY), target="host")) == "no_host"
    assert await why_not(resolver, event(npz(SKY[:4], "ugri"))) == "missing_band"
    assert await why_not(resolver, event(npz(SKY[:, :30]))) == "edge"
    empty = SKY.copy()
    empty[4] = 0
    assert await why_not(resolver, event(npz(empty))) == "missing_band"


@pytest.mark.parametrize(
    "stamp",
    [
        InlineStamp("npz", b"PK not really"),
        InlineStamp("fits", b"SIMPLE  = no"),
        npz(np.array(["a", "b"])),
        npz(np.zeros((5, 40))),
        npz(np.zeros((5, 1, 5000))),
        InlineStamp("npz", b""),
    ],
    ids=["no zip", "no fits", "text", "flat", "long", "empty"],
)
async def test_what_is_not_a_stamp_is_bad(stamp):
    with pytest.raises(DecodeError) as caught:
        await Resolver().resolve(event(stamp))
    assert caught.value.reason == "bad_stamp"


async def test_pickles_in_stamps_are_refused():
    packed = io.BytesIO()
    np.savez(packed, image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DecodeError, match="array cannot be read"):
        await Resolver().resolve(event(InlineStamp("npz", packed.getvalue())))


async def test_a_zip_bomb_is_too_large():
    packed = io.BytesIO()
    np.savez_compressed(packed, image=np.zeros((5, 2000, 2000)))
    with pytest.raises(DecodeError) as caught:
        await Resolver().resolve(event(InlineStamp("npz", packed.getvalue())))
    assert caught.value.reason == "too_large"


async def test_only_allowed_addresses_are_read(tmp_path):
    allowed, secret = tmp_path / "stamps", tmp_path / "secret.npz"
    allowed.mkdir()
    for path in (allowed / "a.npz", secret):
        path.write_bytes(npz(SKY).data)
    (allowed / "link.npz").symlink_to(secret)
    resolver = Resolver(allow=[str(allowed), "https://example.org/stamps", "s3://bucket/stamps"])
    for good in (str(allowed / "a.npz"), (allowed / "a.npz").as_uri()):
        stamp = await resolver.resolve(event(StampAddress(good)))
        assert stamp.origin == good
    for bad in (
        str(secret),
        str(allowed / ".." / "secret.npz"),
        str(allowed / "link.npz"),
        f"{allowed}-more/a.npz",
        "/etc/passwd",
        "https://example.org/stamps/../secret",
        "https://example.org/stamps/%2e%2e/secret",
        "https://example.org.evil.net/stamps/a",
        "http://169.254.169.254/latest",
        "s3://bucket/other",
        "ftp://example.org/a",
    ):
        with pytest.raises(DecodeError) as caught:
            await resolver.resolve(event(StampAddress(bad)))
        assert caught.value.reason == "address_refused", bad
    with pytest.raises(DecodeError, match="No such file"):
        await resolver.resolve(event(StampAddress(str(allowed / "absent.npz"))))
    await resolver.close()


async def test_a_page_is_read_without_following_redirects():
    from aiohttp import web

    async def stamp(_):
        return web.Response(body=npz(SKY).data)

    async def elsewhere(_):
        raise web.HTTPFound("/stamps/a.npz")

    app = web.Application()
    app.router.add_get("/stamps/a.npz", stamp)
    app.router.add_get("/stamps/moved.npz", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}/stamps"
    resolver = Resolver(allow=[base])
    found = await resolver.resolve(event(StampAddress(f"{base}/a.npz")))
    np.testing.assert_array_equal(found.image, SKY[:, 4:36, 4:36])
    with pytest.raises(DecodeError, match="answered 302"):
        await resolver.resolve(event(StampAddress(f"{base}/moved.npz")))
    await resolver.close()
    await runner.cleanup()


@pytest.mark.parametrize("target", ["host", "source"])
async def test_a_stamp_is_cut_around_what_is_asked_for(frames, target):
    folder, (ra, dec), _ = frames
    host = HostGalaxy(id="h", ra=ra, dec=dec if target == "host" else dec + 0.002)
    place = {"ra": ra, "dec": dec + 0.002 if target == "host" else dec}
    notice = packets.notice(stamp=None, target=target, host=host, **place)
    asked = await Decoder(MemorySchemas(), 1 << 20).decode(packets.delivery(notice.to_bytes()))
    stamp = await Resolver(frames=folder).resolve(asked)
    assert _centroid(stamp.image[2]) == pytest.approx((15.5, 15.5), abs=0.1)


async def test_a_notice_may_name_an_address():
    notice = packets.notice(stamp=ImageAddress(url="s3://bucket/key"))
    asked = await Decoder(MemorySchemas(), 1 << 20).decode(packets.delivery(notice.to_bytes()))
    assert asked.stamp == StampAddress("s3://bucket/key")


FLUX = {"u": 20.0, "g": 50.0, "r": 100.0, "i": 150.0, "z": 200.0}


RA, DEC = 150.0, 20.0


def plane(scale=0.4, angle=0.0, flip=1):
    """A WCS of pixels of `scale` arcsec, turned by `angle` degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [RA + 0.001, DEC - 0.001]
    wcs.wcs.crpix = [80.3, 81.7]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-scale, flip * scale]) / 3600
    return wcs


def disc(wcs, scale, flux, shape=(160, 160)):
    """A source of 0.8 arcsec at RA, DEC."""
    x0, y0 = wcs.all_world2pix(RA, DEC, 0)
    y, x = np.indices(shape)
    pixels = np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / (0.8 / scale) ** 2)
    return flux * pixels / pixels.sum()


def write(path, pixels, wcs, **header):
    cards = wcs.to_header(relax=True)
    cards.update({key.upper(): value for key, value in header.items()})
    fits.PrimaryHDU(pixels, cards).writeto(path, overwrite=True)


@pytest.fixture
def frames(tmp_path):
    """Five frames of one source: other pixel scales, turned, one flipped."""
    for n, (band, flux) in enumerate(FLUX.items()):
        scale = 0.3 + 0.06 * n
        wcs = plane(scale, 25.0 * n, -1 if n == 3 else 1)
        write(tmp_path / f"frame-{band}.fits", disc(wcs, scale, flux), wcs, filter=band)
    return tmp_path, (RA, DEC), FLUX


def _centroid(image):
    y, x = np.indices(image.shape)
    return (y * image).sum() / image.sum(), (x * image).sum() / image.sum()


async def test_frames_give_a_centred_stamp_with_its_flux(frames):
    folder, (ra, dec), flux = frames
    stamp = await Resolver(frames=folder).resolve(event(ra_deg=ra, dec_deg=dec))
    for n, band in enumerate("ugriz"):
        assert stamp.image[n].sum() == pytest.approx(flux[band], rel=0.02), band
        assert _centroid(stamp.image[n]) == pytest.approx((15.5, 15.5), abs=0.05), band
    assert stamp.origin == "frames"


async def test_north_is_up_and_east_is_left(frames):
    folder, (ra, dec), _ = frames
    arcsec = 4.0 / 3600
    east_of_middle = event(ra_deg=ra - arcsec / np.cos(np.radians(dec)), dec_deg=dec - arcsec)
    stamp = await Resolver(frames=folder).resolve(east_of_middle)
    y, x = _centroid(stamp.image[2])
    assert y == pytest.approx(15.5 + 4 / 0.396, abs=0.1), "the source lies north: above"
    assert x == pytest.approx(15.5 - 4 / 0.396, abs=0.1), "the source lies east: to the left"


async def test_positions_off_the_frames_say_so(frames):
    folder, (ra, dec), _ = frames
    resolver = Resolver(frames=folder)
    assert await why_not(resolver, event(ra_deg=ra + 1, dec_deg=dec)) == "missing_band"
    assert await why_not(resolver, event(ra_deg=ra, dec_deg=dec + 20 / 3600)) == "edge"
    (folder / "frame-u.fits").unlink()
    assert await why_not(Resolver(frames=folder), event(ra_deg=ra, dec_deg=dec)) == "missing_band"


def test_a_folder_without_frames_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="no FITS images"):
        Resolver(frames=tmp_path)


def bands_of(folder):
    return [each.band for each in Frames(folder)._frames]


@pytest.mark.parametrize(
    ("name", "header", "band"),
    [
        ("a.fits", {"filter": "r"}, "r"),
        ("a.fits", {"filter": "r'"}, "r"),
        ("a.fits", {"filter": "SDSS-r"}, "r"),
        ("a.fits", {"filter": "r_sdss"}, "r"),
        ("a.fits", {"filter": "SDSS I"}, "i"),
        ("a.fits", {"filter": "unknown", "band": "g"}, "g"),
        ("frame-z.fits", {"filter": "unknown"}, "z"),
        ("frame-z.fits", {"filter": "Infrared"}, "z"),
        ("frame-z.fits", {"filter": "R"}, "z"),
        ("frame-r.fits", {"filter": "g"}, "g"),
        ("u-field-r-i.fits", {}, "i"),
        ("I-zwicky.g.000094.fits", {}, "g"),
    ],
)
def test_the_band_is_that_of_the_header_or_the_last_letter_of_the_name(
    tmp_path, name, header, band
):
    write(tmp_path / name, np.ones((40, 40)), plane(), **header)
    assert bands_of(tmp_path) == [band]


@pytest.mark.parametrize("header", [{"filter": "unknown"}, {"filter": "Infrared"}, {}])
def test_a_frame_that_names_no_band_is_passed_over(tmp_path, header):
    write(tmp_path / "unit.fits", np.ones((40, 40)), plane(), **header)
    with pytest.raises(SourceError, match="no FITS images"):
        Frames(tmp_path)


def test_a_header_with_a_position_and_no_pixels_is_passed_over(tmp_path):
    write(tmp_path / "frame-r.fits", np.ones((40, 40)), plane())
    write(tmp_path / "only-header-g.fits", None, plane())
    write(tmp_path / "line-i.fits", np.ones(40), plane())
    assert bands_of(tmp_path) == ["r"]


def test_a_hole_stays_where_it_is(tmp_path):
    """A pixel whose spline takes one from the hole is not given out, and no other is changed."""
    sky = np.random.default_rng(2).normal(100, 1, (160, 160))
    write(tmp_path / "frame-r.fits", sky, plane())
    holed = sky.copy()
    holed[84:87, 80:83] = np.nan
    write(tmp_path / "holed-g.fits", holed, plane())
    frames = {each.band: each for each in Frames(tmp_path)._frames}
    grid = _grid(RA, DEC)
    whole, cut = _resample(frames["r"], grid), _resample(frames["g"], grid)
    bad = np.isnan(cut)
    x, y = frames["g"].locate(*grid)
    touched = np.zeros_like(bad)
    for row, column in np.ndindex(bad.shape):
        top, left = int(np.floor(y[row, column])) - 1, int(np.floor(x[row, column])) - 1
        touched[row, column] = np.isnan(holed[top : top + 4, left : left + 4]).any()
    np.testing.assert_array_equal(bad, touched)
    assert 25 < bad.sum() < 60
    assert np.abs(cut - whole)[~bad].max() < 1.0, "filled with zeros it rings with tens"


async def test_a_frame_of_holes_is_no_image(frames):
    folder, (ra, dec), _ = frames
    write(folder / "frame-u.fits", np.full((160, 160), np.nan), plane(), filter="u")
    assert await why_not(Resolver(frames=folder), event(ra_deg=ra, dec_deg=dec)) == "missing_band"


def distorted(x, y):
    wcs = plane()
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.crpix = [40.0, 40.0]
    wcs.wcs.crval = [RA + 0.0047, DEC - 0.0044]  # 40 pixels from the source
    a, b = np.zeros((3, 3)), np.zeros((3, 3))
    a[2, 0], b[0, 2] = x, y
    wcs.sip = Sip(a, b, None, None, np.array([40.0, 40.0]))
    return wcs


def test_distortion_is_followed(tmp_path):
    """A frame whose polynomials move the source by several pixels."""
    wcs = distorted(2e-3, -2e-3)
    write(tmp_path / "frame-r.fits", disc(wcs, 0.4, 100.0), wcs)
    (frame,) = Frames(tmp_path)._frames
    x, y = frame.locate(RA, DEC)
    straight = frame.wcs.wcs_world2pix(RA, DEC, 0)
    assert np.hypot(x - straight[0], y - straight[1]) > 2
    stamp = _resample(frame, _grid(RA, DEC))
    assert _centroid(stamp) == pytest.approx((15.5, 15.5), abs=0.3)
    assert frame.locate(RA + 40, DEC) is None
    assert frame.locate(RA + 180, -DEC) is None


def test_where_distortion_has_no_end_is_off_the_frame(tmp_path):
    write(tmp_path / "frame-r.fits", np.ones((160, 160)), distorted(0.5, 0.5))
    (frame,) = Frames(tmp_path)._frames
    assert frame.locate(RA, DEC) is None


async def test_a_frame_that_was_lost_or_changed_says_so(frames):
    folder, (ra, dec), _ = frames
    resolver = Resolver(frames=folder)
    (folder / "frame-r.fits").unlink()
    with pytest.raises(NotApplicable, match=r"frame-r\.fits cannot be read") as caught:
        await resolver.resolve(event(ra_deg=ra, dec_deg=dec))
    assert caught.value.reason == "missing_band"
    write(folder / "frame-r.fits", np.ones((100, 100)), plane(), filter="r")
    with pytest.raises(NotApplicable, match="has changed"):
        await resolver.resolve(event(ra_deg=ra, dec_deg=dec))


async def test_the_next_frame_is_taken_where_one_is_lost(frames):
    folder, (ra, dec), _ = frames
    (folder / "a-r.fits").write_bytes((folder / "frame-r.fits").read_bytes())
    resolver = Resolver(frames=folder)
    (folder / "a-r.fits").unlink()
    assert (await resolver.resolve(event(ra_deg=ra, dec_deg=dec))).origin == "frames"


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(ra=st.floats(0, 360, exclude_max=True), dec=st.floats(-90, 90))
async def test_no_position_raises_anything_else(frames, ra, dec):
    folder, *_ = frames
    with suppress(NotApplicable):
        await Resolver(frames=folder).resolve(event(ra_deg=ra, dec_deg=dec))


@pytest.mark.parametrize("place", [(360.0, 0.0), (-1.0, 0.0), (0.0, 90.1), (np.nan, 0.0)])
def test_an_event_is_on_the_sky_and_so_is_its_host(place):
    for make in (lambda: event(ra_deg=place[0], dec_deg=place[1]), lambda: Host("h", *place)):
        with pytest.raises(ValueError, match="not on the sky"):
            make()


def test_inline_images_are_packed_as_they_are_read():
    packed = InlineImage.of_pixels(SKY.astype(np.float16))
    assert packed.encoding == "npz"
