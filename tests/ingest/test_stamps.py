"""From an event to its stamp: the right pixels, the right flux, or the reason why not."""

import io
from contextlib import suppress

import numpy as np
import packets
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.codecs import Decoder
from ingest.codecs.notice import HostGalaxy, ImageAddress, InlineImage
from ingest.errors import DecodeError, NotApplicable, SourceError
from ingest.events import Event, InlineStamp, StampAddress
from ingest.schemas import MemorySchemas
from ingest.stamps import readers
from ingest.stamps.photometry import aperture_fluxes, asinh_magnitudes
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


def test_compressed_tiles_are_not_expanded():
    with pytest.raises(DecodeError, match="without an image"):
        readers.read(packed("tiles"), "fits", 1 << 24)


async def test_magnitudes_of_the_survey_are_kept_and_absent_ones_measured():
    given = (20.0, 19.0, 18.0, 17.5, 17.2)
    stamp = await Resolver().resolve(event(npz(SKY), magnitudes=given))
    assert stamp.magnitudes.tolist() == pytest.approx(given)
    measured = (await Resolver().resolve(event(npz(SKY)))).magnitudes
    assert np.isfinite(measured).all(), "asinh magnitudes exist for empty sky, too"


def test_a_known_flux_has_its_magnitude():
    image = np.zeros((5, 32, 32), dtype=np.float32)
    image[:, 15:17, 15:17] = 100 / 4
    fluxes = aperture_fluxes(image)
    assert fluxes == pytest.approx(100.0)
    # 100 nanomaggies are magnitude 17.5; asinh magnitudes differ by < 0.01 that far up
    assert asinh_magnitudes(fluxes) == pytest.approx(17.5, abs=0.01)


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


async def test_a_notice_with_a_host_is_cut_at_the_host(frames):
    folder, (ra, dec), _ = frames
    notice = packets.notice(
        stamp=None,
        ra=ra - 0.002,
        dec=dec,
        target="host",
        host=HostGalaxy(id="h", ra=ra, dec=dec),
    )
    asked = await Decoder(MemorySchemas(), 1 << 20).decode(packets.delivery(notice.to_bytes()))
    stamp = await Resolver(frames=folder).resolve(asked)
    assert _centroid(stamp.image[2]) == pytest.approx((15.5, 15.5), abs=0.1)


async def test_a_notice_may_name_an_address():
    notice = packets.notice(stamp=ImageAddress(url="s3://bucket/key"))
    asked = await Decoder(MemorySchemas(), 1 << 20).decode(packets.delivery(notice.to_bytes()))
    assert asked.stamp == StampAddress("s3://bucket/key")


FLUX = {"u": 20.0, "g": 50.0, "r": 100.0, "i": 150.0, "z": 200.0}


@pytest.fixture
def frames(tmp_path):
    """Five frames of one source: other pixel scales, turned, one flipped."""
    ra, dec = 150.0, 20.0
    for n, (band, flux) in enumerate(FLUX.items()):
        scale, angle = 0.3 + 0.06 * n, np.radians(25.0 * n)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [ra + 0.001, dec - 0.001]
        wcs.wcs.crpix = [80.3, 81.7]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        wcs.wcs.cd = turn @ np.diag([-scale / 3600, (-1 if n == 3 else 1) * scale / 3600])
        x0, y0 = wcs.wcs_world2pix(ra, dec, 0)
        y, x = np.indices((160, 160))
        sigma = 0.8 / scale  # 0.8 arcsec in pixels
        disc = np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / sigma**2)
        header = wcs.to_header()
        header["FILTER"] = band
        fits.PrimaryHDU(flux * disc / disc.sum(), header).writeto(tmp_path / f"frame-{band}.fits")
    return tmp_path, (ra, dec), FLUX


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


def test_inline_images_are_packed_as_they_are_read():
    packed = InlineImage.of_pixels(SKY.astype(np.float16))
    assert packed.encoding == "npz"
