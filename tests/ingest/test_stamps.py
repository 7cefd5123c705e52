"""From an event to its stamp: the right pixels, the right flux, or the reason why not."""

import io
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import packets
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packets import event, why_not

from ingest.codecs import Decoder
from ingest.codecs.notice import ImageAddress, InlineImage
from ingest.errors import DecodeError
from ingest.events import Host, InlineStamp, StampAddress
from ingest.schemas import MemorySchemas
from ingest.stamps import readers
from ingest.stamps.resolve import Resolver

SKY = np.random.default_rng(1).normal(0, 0.02, (5, 40, 40)).astype(np.float32)


def npz(image, bands="ugriz"):
    packed = io.BytesIO()
    np.savez(packed, image=image, bands=np.array(list(bands)))
    return InlineStamp("npz", packed.getvalue())


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


async def test_a_notice_may_name_an_address():
    notice = packets.notice(stamp=ImageAddress(url="s3://bucket/key"))
    asked = await Decoder(MemorySchemas(), 1 << 20).decode(packets.delivery(notice.to_bytes()))
    assert asked.stamp == StampAddress("s3://bucket/key")


@pytest.mark.parametrize("place", [(360.0, 0.0), (-1.0, 0.0), (0.0, 90.1), (np.nan, 0.0)])
def test_an_event_is_on_the_sky_and_so_is_its_host(place):
    for make in (lambda: event(ra_deg=place[0], dec_deg=place[1]), lambda: Host("h", *place)):
        with pytest.raises(ValueError, match="not on the sky"):
            make()


def test_inline_images_are_packed_as_they_are_read():
    packed = InlineImage.of_pixels(SKY.astype(np.float16))
    assert packed.encoding == "npz"
