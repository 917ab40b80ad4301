import io
import os
import random
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from imagetools.decode import ORIGINAL_SIZE, DecodeConfig, decode
from imagetools.errors import (
    BrokenImage,
    ImageError,
    ImageRootUnavailable,
    ImageTooLarge,
    MissingImage,
    OutsideRoot,
    UnreadableImage,
    UnsupportedImage,
)
from imagetools.folder import LEADS_OUT, UNLISTABLE, UNUSABLE_NAME, Skipped, find_images
from imagetools.folder_storage import file_state
from imagetools.formats import FORMATS, IMAGE_SUFFIXES
from imagetools.image_root import ImageRoot

NOBODY = 65534
MOST_SHOWN = 4096


def photo(width: int = 120, height: int = 80, seed: int = 1) -> Image.Image:
    rng = random.Random(seed)
    return Image.frombytes("RGB", (6, 4), rng.randbytes(72)).resize((width, height), Image.Resampling.BICUBIC)


def packed(image: Image.Image, format_name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def difference(one: Image.Image, two: Image.Image) -> float:
    """Mean absolute difference of levels, 0 to 255."""
    assert one.size == two.size
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(two, dtype=int)).mean())


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any header, with the filtered rows as they come."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + body


SAMPLES = {name: packed(photo(48, 32), name) for name in FORMATS}


class TestPictures:
    @pytest.mark.parametrize("format_name", FORMATS)
    def test_every_format_is_read(self, format_name: str) -> None:
        image = decode(packed(photo(), format_name), "a")
        assert (image.mode, image.size, image.info) == ("RGB", (120, 80), {})
        # a GIF has 256 colours
        assert difference(image, photo()) < (8 if format_name == "GIF" else 4)

    def test_a_stereo_photo_of_a_phone_is_a_jpeg(self) -> None:
        data = packed(photo(), "MPO", save_all=True, append_images=[photo(seed=2)])
        assert difference(decode(data, "a.jpg"), photo()) < 4

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_the_picture_comes_upright(self, orientation: int, format_name: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = packed(photo(), format_name, exif=exif)
        with Image.open(io.BytesIO(data)) as opened:
            expected = ImageOps.exif_transpose(opened)
        image = decode(data, "a")
        assert image.size == ((80, 120) if orientation >= 5 else (120, 80))
        assert difference(image, expected.convert("RGB")) == 0

    def test_orientation_6_is_what_a_camera_means_by_it(self) -> None:
        """6: the sensor's first row is the picture's right side."""
        sensor = Image.new("RGB", (40, 20), "blue")
        sensor.paste("red", (0, 0, 40, 10))
        exif = Image.Exif()
        exif[0x0112] = 6
        upright = decode(packed(sensor, "PNG", exif=exif), "a")
        assert upright.size == (20, 40)
        assert upright.getpixel((19, 20)) == (255, 0, 0)
        assert upright.getpixel((0, 20)) == (0, 0, 255)

    def test_damaged_exif_does_not_cost_the_picture(self) -> None:
        data = packed(photo(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
        assert difference(decode(data, "a"), photo()) == 0

    @given(width=st.integers(1, 300), height=st.integers(1, 300), box=st.tuples(*[st.integers(1, 300)] * 2))
    @example(width=300, height=200, box=(25, 25))
    @settings(max_examples=60, deadline=None)
    def test_a_box_never_makes_a_picture_too_small(self, width: int, height: int, box: tuple[int, int]) -> None:
        for orientation in (1, 6):
            exif = Image.Exif()
            exif[0x0112] = orientation
            data = packed(photo(width, height), "JPEG", exif=exif)
            full, reduced = decode(data, "a"), decode(data, "a", box=box)
            for have, had, asked in zip(reduced.size, full.size, box, strict=True):
                assert min(had, asked) <= have <= had

    def test_a_photo_decoded_smaller_tells_the_size_that_it_came_in(self) -> None:
        turned = Image.Exif()
        turned[0x0112] = 6
        plain, turned_too = packed(photo(1600, 1200), "JPEG"), packed(photo(1600, 1200), "JPEG", exif=turned)
        assert decode(plain, "a", box=(160, 160)).info == {ORIGINAL_SIZE: (1600, 1200)}
        assert decode(turned_too, "a", box=(160, 160)).info == {ORIGINAL_SIZE: (1200, 1600)}
        assert decode(plain, "a").info == {}
        assert decode(plain, "a", box=(1600, 1600)).info == {}

    def test_a_large_photo_is_decoded_at_an_eighth_for_a_small_box(self) -> None:
        data = packed(photo(1600, 2400), "JPEG")
        assert decode(data, "a", box=(128, 128)).size == (200, 300)
        assert decode(data, "a", box=(201, 300)).size == (400, 600)
        assert difference(decode(data, "a", box=(128, 128)), photo(1600, 2400).resize((200, 300))) < 3


class TestColours:
    def test_16_bits_are_scaled_not_clipped(self) -> None:
        ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        for data in (packed(Image.fromarray(ramp), "PNG"), packed(Image.fromarray(ramp), "TIFF")):
            assert np.array_equal(np.asarray(decode(data, "a"))[..., 1], np.round(ramp / 257).astype(np.uint8))

    def test_16_bit_grey_keeps_its_scale_where_it_is_dark(self) -> None:
        dark = Image.fromarray(np.full((4, 4), 200, dtype=np.uint16))
        assert decode(packed(dark, "PNG"), "a").getpixel((0, 0)) == (1, 1, 1)

    def test_16_bit_colour(self) -> None:
        row = b"\0" + struct.pack(">3H", 65535, 32896, 0)
        assert decode(png(1, 1, 16, 2, row), "a").getpixel((0, 0)) == (255, 128, 0)

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-7.0, 9.5), (0.0, 65535.0), (1e6, 3e6)])
    def test_floats_fill_the_range_that_they_lie_in(self, low: float, high: float) -> None:
        ramp = np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)
        image = decode(packed(Image.fromarray(ramp), "TIFF"), "a")
        assert np.abs(np.asarray(image)[..., 0].astype(int).ravel() - np.arange(256)).max() <= 1

    @pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
    def test_floats_that_are_no_numbers_are_a_picture_all_the_same(self, odd: float) -> None:
        values = np.full((4, 4), 0.5, dtype=np.float32)
        values[0, 0] = odd
        assert decode(packed(Image.fromarray(values), "TIFF"), "a").mode == "RGB"

    def test_cmyk_inverted_in_jpeg_and_plain_in_tiff(self) -> None:
        cmyk = photo().convert("CMYK")
        marked = packed(cmyk, "JPEG", quality=95)
        start = marked.index(b"\xff\xee")
        assert marked[start + 4 : start + 9] == b"Adobe"
        length = 2 + int.from_bytes(marked[start + 2 : start + 4], "big")
        # without the marker browsers take the levels for inverted too
        for data in (marked, marked[:start] + marked[start + length :]):
            assert difference(decode(data, "a"), photo()) < 4
        assert difference(decode(packed(cmyk, "TIFF"), "a"), photo()) == 0

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    @pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF", "AVIF"])
    def test_alpha_lies_on_white(self, mode: str, format_name: str) -> None:
        image = Image.new("RGBA", (40, 20), (0, 0, 0, 255))
        image.paste((0, 0, 0, 0), (0, 0, 20, 20))
        if format_name in ("PNG", "TIFF"):
            image = image.convert(mode)
        picture = decode(packed(image, format_name), "a")
        assert min(picture.crop((0, 0, 18, 20)).tobytes()) > 250
        assert max(picture.crop((22, 0, 40, 20)).tobytes()) < 5

    def test_half_transparent_is_half_white(self) -> None:
        assert decode(packed(Image.new("RGBA", (1, 1), (0, 0, 0, 127)), "PNG"), "a").getpixel((0, 0)) == (128,) * 3

    @pytest.mark.parametrize("format_name", ["PNG", "GIF"])
    def test_a_transparent_palette_entry_is_white(self, format_name: str) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([200, 0, 0, 0, 0, 200])
        image.putpixel((1, 0), 1)
        picture = decode(packed(image, format_name, transparency=0), "a")
        assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 200)]

    def test_a_transparent_colour_of_a_grey_png_is_white(self) -> None:
        data = png(2, 1, 8, 0, b"\0\x05\x80", (b"tRNS", b"\0\x05"))
        assert [decode(data, "a").getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (128,) * 3]

    def test_one_bit(self) -> None:
        image = Image.new("1", (3, 3), 1)
        assert decode(packed(image, "PNG"), "a").getpixel((1, 1)) == (255, 255, 255)

    def test_colours_that_are_not_read_are_named(self) -> None:
        with pytest.raises(UnsupportedImage, match="LAB"):
            decode(packed(Image.new("LAB", (4, 4)), "TIFF"), "a.tif")

    @pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_of_an_animation_the_first_frame(self, format_name: str) -> None:
        frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
        data = packed(frames[0], format_name, save_all=True, append_images=frames[1:])
        assert difference(decode(data, "a"), frames[0]) < 2

    def test_one_pixel_and_uniform_black(self) -> None:
        for format_name in FORMATS:
            if format_name != "HEIF":  # its encoder wants more
                assert decode(packed(Image.new("RGB", (1, 1)), format_name), "a").size == (1, 1)
            assert max(decode(packed(Image.new("RGB", (64, 64)), format_name), "a").tobytes()) < 3


class TestBadBytes:
    def test_an_empty_file_says_that_it_is_empty(self) -> None:
        with pytest.raises(BrokenImage, match="empty"):
            decode(b"", "a.jpg")

    @pytest.mark.parametrize("text", [b"hello", b"BMW builds cars in Munich, and so on", b"<svg/>", b"%PDF-1.7", b"\0"])
    def test_what_is_no_image_is_unsupported(self, text: bytes) -> None:
        with pytest.raises(UnsupportedImage, match=r"a\.jpg: not an image"):
            decode(text, "a.jpg")

    def test_a_format_off_the_list_is_unsupported(self) -> None:
        with pytest.raises(UnsupportedImage):
            decode(packed(photo(), "PPM"), "a.ppm")

    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("box", [None, (8, 8)])
    def test_a_truncated_jpeg_is_broken(self, progressive: bool, box: tuple[int, int] | None) -> None:
        data = packed(photo(400, 300), "JPEG", progressive=progressive)
        with pytest.raises(BrokenImage, match=r"photo\.jpg: damaged or cut off"):
            decode(data[: len(data) // 2], "photo.jpg", box=box)

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        data = png(20_000, 20_000, 8, 0, bytes(1 << 20))
        began = time.process_time()
        with pytest.raises(ImageTooLarge, match="20,000 × 20,000"):
            decode(data, "bomb.png")
        assert time.process_time() - began < 0.1

    def test_between_pillows_limit_and_ours_nothing_warns(self) -> None:
        """Pillow warns from 89 megapixels on; 95 are within our limit, so that only the missing rows are wrong."""
        with pytest.raises(BrokenImage):
            decode(png(9_500, 10_000, 1, 0, bytes(1)), "large.png")

    def test_huge_pictures_take_turns_and_a_broken_one_lets_the_next_pass(self) -> None:
        whole = packed(Image.new("1", (5_000, 5_000)), "PNG")
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(decode, data, "a") for data in (whole[: len(whole) // 2], whole, whole)]
        assert isinstance(waiting[0].exception(), BrokenImage)
        assert [done.result().size for done in waiting[1:]] == [(5_000, 5_000)] * 2

    def test_the_limits_are_the_configured_ones(self) -> None:
        data = packed(photo(20, 10), "PNG")
        assert decode(data, "a", config=DecodeConfig(len(data), 200)).size == (20, 10)
        with pytest.raises(ImageTooLarge, match="pixels"):
            decode(data, "a", config=DecodeConfig(max_pixels=199))
        with pytest.raises(ImageTooLarge, match="bytes"):
            decode(data, "a", config=DecodeConfig(max_bytes=len(data) - 1))

    @given(name=st.sampled_from(FORMATS), cut=st.floats(0, 1))
    @settings(max_examples=200, deadline=None)
    def test_a_file_cut_anywhere_is_an_image_or_an_image_error(self, name: str, cut: float) -> None:
        self._image_or_image_error(SAMPLES[name][: int(cut * len(SAMPLES[name]))])

    @given(name=st.sampled_from(FORMATS), changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4))))
    @settings(max_examples=300, deadline=None)
    def test_a_damaged_file_is_an_image_or_an_image_error(self, name: str, changes: list[tuple[float, bytes]]) -> None:
        data = bytearray(SAMPLES[name])
        for at, new in changes:
            # most of what a header says stands in its first bytes
            start = int(at**3 * len(data))
            data[start : start + len(new)] = new
        self._image_or_image_error(bytes(data))

    @given(name=st.sampled_from(FORMATS), kept=st.integers(0, 16), noise=st.binary(max_size=400))
    @settings(max_examples=200, deadline=None)
    def test_noise_is_an_image_error(self, name: str, kept: int, noise: bytes) -> None:
        self._image_or_image_error(SAMPLES[name][:kept] + noise)

    @staticmethod
    def _image_or_image_error(data: bytes) -> None:
        for box in (None, (8, 8)):
            try:
                image = decode(data, "a", box=box, config=DecodeConfig(max_pixels=1_000_000))
            except ImageError as exc:
                told = str(exc)
            else:
                told = "a: "
                assert image.mode == "RGB"
                assert len(image.tobytes()) == 3 * image.width * image.height
            assert told.startswith("a: ")
            assert "\n" not in told


@pytest.fixture
def folder() -> Iterator[Path]:
    """images/ with a photo, a folder and a neighbor outside; unlike tmp_path where everybody may go."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        inside = Path(parent) / "images"
        (inside / "album").mkdir(parents=True)
        (inside / "a.jpg").write_bytes(packed(photo(), "JPEG"))
        (inside / "album" / "b.png").write_bytes(packed(photo(), "PNG"))
        (Path(parent) / "outside").mkdir()
        (Path(parent) / "outside" / "b.png").write_bytes(b"secret")
        yield inside


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """Nobody but the superuser may use the path, and this process is not the superuser."""
    path.chmod(0)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        path.chmod(0o755)


class TestImageRoot:
    def test_reads_and_opens(self, folder: Path) -> None:
        images = ImageRoot(folder)
        assert images.read("a.jpg") == (folder / "a.jpg").read_bytes()
        assert images.open("album/b.png").size == (120, 80)
        assert images.open("a.jpg", box=(10, 10)).size == (15, 10)
        assert images.status("album/b.png").state == file_state(folder, "album/b.png")

    @pytest.mark.parametrize(
        "name", ["mit Leerzeichen.png", 'it\'s "quoted".png', "写真 ünï.png", "-rf.png", "a\nb.png"]
    )
    def test_odd_names_are_names(self, folder: Path, name: str) -> None:
        (folder / name).write_bytes(packed(photo(), "PNG"))
        assert ImageRoot(folder).open(name).size == (120, 80)

    @pytest.mark.parametrize(
        "path",
        ["../outside/b.png", "../../etc/passwd", "album/../../outside/b.png", "/etc/passwd", "..", "../images/a.jpg"],
    )
    def test_no_path_leaves_the_root(self, folder: Path, path: str) -> None:
        for use in (ImageRoot(folder).status, ImageRoot(folder).read, ImageRoot(folder).open):
            with pytest.raises(OutsideRoot):
                use(path)

    def test_a_link_may_lead_around_inside_but_not_out(self, folder: Path) -> None:
        images = ImageRoot(folder)
        (folder / "good.png").symlink_to("album/b.png")
        (folder / "good").symlink_to(folder / "album")
        (folder / "bad.png").symlink_to(folder.parent / "outside" / "b.png")
        (folder / "bad").symlink_to("../outside")
        (folder / "far").symlink_to("/")
        assert images.open("good.png").size == images.open("good/b.png").size == (120, 80)
        for path in ("bad.png", "bad/b.png", "bad/none.png", "far/etc/passwd", "album/../bad/b.png"):
            for use in (images.status, images.read):
                with pytest.raises(OutsideRoot):
                    use(path)

    def test_the_root_may_be_a_link_and_a_neighbor_may_share_its_beginning(self, folder: Path) -> None:
        (folder.parent / "link").symlink_to(folder)
        (folder.parent / "images2").mkdir()
        (folder.parent / "images2" / "c.png").write_bytes(b"secret")
        (folder / "c.png").symlink_to("../images2/c.png")
        images = ImageRoot(folder.parent / "link")
        assert images.open("a.jpg").size == (120, 80)
        with pytest.raises(OutsideRoot):
            images.read("c.png")

    def test_links_that_lead_nowhere_or_in_a_circle_are_missing(self, folder: Path) -> None:
        (folder / "dangling.png").symlink_to("none.png")
        (folder / "one.png").symlink_to("two.png")
        (folder / "two.png").symlink_to("one.png")
        for path in ("dangling.png", "one.png", "one.png/b.png"):
            for use in (ImageRoot(folder).status, ImageRoot(folder).read):
                with pytest.raises(MissingImage):
                    use(path)

    @pytest.mark.parametrize(
        "path", ["none.jpg", "none/none.jpg", "a.jpg/b.jpg", "a\0.jpg", "x" * 300, "x" * 10_000, "é/" * 1_500, "\ud800"]
    )
    def test_what_is_not_there_is_missing(self, folder: Path, path: str) -> None:
        for use in (ImageRoot(folder).status, ImageRoot(folder).read):
            with pytest.raises(MissingImage) as caught:
                use(path)
            # it becomes a Kafka header and a line of text
            assert len(str(caught.value).encode()) < 2_000 + MOST_SHOWN
            assert "\0" not in str(caught.value)

    @pytest.mark.parametrize("path", ["album", "", ".", "album/", "pipe.jpg", "socket.jpg"])
    def test_what_is_no_file_is_unsupported_and_never_waited_for(
        self, folder: Path, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.mkfifo(folder / "pipe.jpg")
        monkeypatch.chdir(folder)  # a socket's path has 108 bytes at most
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.jpg")
            for use in (ImageRoot(folder).status, ImageRoot(folder).read):
                with pytest.raises(UnsupportedImage, match=r"a folder|a named pipe|a socket"):
                    use(path)

    def test_a_device_is_unsupported(self) -> None:
        with pytest.raises(UnsupportedImage, match="a device"):
            ImageRoot(Path("/dev")).read("zero")

    def test_a_file_over_the_limit_is_not_read(self, folder: Path) -> None:
        with (folder / "huge.jpg").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(ImageTooLarge, match="1,099,511,627,776 bytes"):
            ImageRoot(folder).read("huge.jpg")

    def test_a_file_without_a_size_is_capped_while_it_is_read(self) -> None:
        if not Path("/proc/self/status").exists():
            pytest.skip("no /proc")
        assert ImageRoot(Path("/proc/self")).read("status").startswith(b"Name:")
        with pytest.raises(ImageTooLarge):
            ImageRoot(Path("/proc/self"), DecodeConfig(max_bytes=10)).read("status")

    def test_a_root_that_is_gone_or_empty_is_nobodys_fault(self, folder: Path) -> None:
        empty = folder / "empty"
        empty.mkdir()
        for root in (folder / "none", empty, folder / "a.jpg"):
            for use in (ImageRoot(root).status, ImageRoot(root).read, ImageRoot(root).open):
                with pytest.raises(ImageRootUnavailable):
                    use("a.jpg")

    def test_a_path_that_cannot_be_is_to_blame_whether_the_root_is_there_or_not(self, folder: Path) -> None:
        with pytest.raises(OutsideRoot):
            ImageRoot(folder / "none").read("../a.jpg")

    def test_missing_rights_to_one_file_are_that_files_and_to_the_root_nobodys(self, folder: Path) -> None:
        for path in (folder / "album", folder / "album" / "b.png"):
            with without_rights(path), pytest.raises(UnreadableImage, match="Permission denied"):
                ImageRoot(folder).read("album/b.png")
        with without_rights(folder), pytest.raises(ImageRootUnavailable, match="Permission denied"):
            ImageRoot(folder).read("album/b.png")
        assert ImageRoot(folder).open("album/b.png").size == (120, 80)

    def test_a_disk_that_does_not_answer_is_nobodys_fault(self) -> None:
        if not Path("/proc/self/mem").exists():
            pytest.skip("no /proc")
        with pytest.raises(ImageRootUnavailable, match="Input/output error"):
            ImageRoot(Path("/proc/self")).read("mem")

    def test_a_folder_swapped_for_a_link_meanwhile_is_not_followed(self, folder: Path) -> None:
        images, stop = ImageRoot(folder), threading.Event()
        good = (folder / "album" / "b.png").read_bytes()

        def swap() -> None:
            while not stop.is_set():
                (folder / "album").rename(folder / "aside")
                (folder / "album").symlink_to("../outside")
                (folder / "album").unlink()
                (folder / "aside").rename(folder / "album")

        swapping = threading.Thread(target=swap, daemon=True)
        swapping.start()
        read = refused = 0
        deadline = time.monotonic() + 20
        try:
            while (read < 200 or refused < 200) and time.monotonic() < deadline:
                try:
                    assert images.read("album/b.png") == good
                    read += 1
                except (MissingImage, OutsideRoot):
                    refused += 1
        finally:
            stop.set()
            swapping.join()
        assert read >= 200
        assert refused >= 200

    def test_threads_do_not_disturb_each_other(self, folder: Path) -> None:
        for number, name in enumerate(FORMATS):
            (folder / f"{number}.x").write_bytes(packed(photo(40 + number, 30), name))
        images = ImageRoot(folder)
        with ThreadPoolExecutor(8) as pool:
            sizes = list(pool.map(lambda i: images.open(f"{i % len(FORMATS)}.x").width, range(200)))
        assert sizes == [40 + i % len(FORMATS) for i in range(200)]


def test_errors_name_an_image_in_one_line(tmp_path: Path) -> None:
    for broken in (lambda: decode(b"x", "a\x1b[31m\nb.jpg"), lambda: ImageRoot(tmp_path).read("a\x1b[31m\nb.jpg")):
        with pytest.raises((ImageError, ImageRootUnavailable)) as raised:
            broken()
        assert "\x1b" not in str(raised.value)
        assert "\n" not in str(raised.value)


class TestFindImages:
    def test_finds_by_suffix_in_order_and_skips_the_hidden(self, tmp_path: Path) -> None:
        for path in [
            "b.JPG",
            "a/z.png",
            "a/b/c.heic",
            "a b.webp",
            "notes.txt",
            ".git/x.jpg",
            "._b.jpg",
            "jpg",
            "é.jpeg",
        ]:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        (tmp_path / "folder.png").mkdir()
        assert list(find_images(tmp_path)) == ["a/b/c.heic", "a/z.png", "a b.webp", "b.JPG", "é.jpeg"]

    def test_every_format_has_a_suffix(self) -> None:
        assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"} <= IMAGE_SUFFIXES
        assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)

    def test_what_cannot_be_named_or_reached_is_reported(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))).touch()
        (folder / "out.jpg").symlink_to("../outside/b.png")
        (folder / "in.jpg").symlink_to("a.jpg")
        (folder / "loop").symlink_to(folder)
        (folder / "locked").mkdir()
        skipped: list[Skipped] = []
        with without_rights(folder / "locked"):
            found = list(find_images(folder, on_skipped=skipped.append))
            assert found == list(find_images(folder))
        assert found == ["a.jpg", "album/b.png", "in.jpg"]
        assert [(one.kind, one.name) for one in skipped] == [
            (UNUSABLE_NAME, "caf\\udce9.jpg"),
            (UNLISTABLE, "locked"),
            (LEADS_OUT, "out.jpg"),
        ]
        assert [str(one) in caplog.text for one in skipped] == [True] * 3

    def test_every_path_found_can_be_opened(self, folder: Path) -> None:
        assert [ImageRoot(folder).open(path).size for path in find_images(folder)] == [(120, 80)] * 2

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ImageRootUnavailable):
            list(find_images(tmp_path / "none"))

    def test_folders_may_be_nested_deeper_than_python_may_recurse(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for _ in range(1100):
            os.mkdir("d")
            os.chdir("d")
        Path("x.jpg").touch()
        found = list(find_images(tmp_path))
        # shutil.rmtree recurses, and could not clean up
        os.remove("x.jpg")
        for _ in range(1100):
            os.chdir("..")
            os.rmdir("d")
        assert found == ["d/" * 1100 + "x.jpg"]
