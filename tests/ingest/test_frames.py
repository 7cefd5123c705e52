"""Stamps cut from survey frames: centred, with the right flux, or the reason why not."""

from contextlib import suppress

import numpy as np
import packets
import pytest
from astropy.io import fits
from astropy.wcs import WCS, Sip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packets import event, why_not

from ingest.codecs import Decoder
from ingest.codecs.notice import HostGalaxy
from ingest.errors import NotApplicable, SourceError
from ingest.schemas import MemorySchemas
from ingest.stamps.frames import Frames, _grid, _resample
from ingest.stamps.resolve import Resolver

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


@pytest.mark.parametrize("target", ["host", "source"])
async def test_a_stamp_is_cut_around_what_is_asked_for(frames, target):
    folder, (ra, dec), _ = frames
    host = HostGalaxy(id="h", ra=ra, dec=dec if target == "host" else dec + 0.002)
    place = {"ra": ra, "dec": dec + 0.002 if target == "host" else dec}
    notice = packets.notice(stamp=None, target=target, host=host, **place)
    asked = await Decoder(MemorySchemas(), 1 << 20).decode(packets.delivery(notice.to_bytes()))
    stamp = await Resolver(frames=folder).resolve(asked)
    assert _centroid(stamp.image[2]) == pytest.approx((15.5, 15.5), abs=0.1)
