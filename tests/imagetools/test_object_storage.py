"""Images in a store of objects, against a real S3 server: what is read, what is refused, and who is to blame."""

import io
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from imagetools import object_storage
from imagetools.decode import DecodeConfig
from imagetools.errors import (
    ConfigError,
    ImageRootUnavailable,
    ImageTooLarge,
    MissingImage,
    OutsideRoot,
    UnsupportedImage,
)
from imagetools.features.cache import FeatureCache, FeatureSource
from imagetools.features.config import FeatureConfig
from imagetools.features.store import FeatureStore
from imagetools.folder import HIDDEN, NO_EXTENSION, NO_IMAGE, Tally
from imagetools.image_root import ImageRoot
from imagetools.object_storage import BadKey
from tests.support.breaking_proxy import BreakingProxy
from tests.support.object_store import Bucket, ObjectServer
from tests.support.streaming import scene

QUICK = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=2),
    "backoff": {"init_backoff": timedelta(milliseconds=20)},
}


def stored(seed: int) -> bytes:
    file = io.BytesIO()
    scene(seed, (60, 50)).save(file, "PNG")
    return file.getvalue()


PICTURE = stored(1)


@pytest.fixture
def bucket(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = object_server.bucket()
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_storage, "RETRY", QUICK)
    made.put_as("pre/a.png", PICTURE)
    return made


@pytest.fixture
def images(bucket: Bucket) -> ImageRoot:
    return ImageRoot(f"{bucket.address}/pre")


def through(proxy: BreakingProxy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> ImageRoot:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    return ImageRoot(f"{bucket.address}/pre")


def test_an_object_is_read_and_its_state_tells_when_it_changes(images, bucket):
    data, state = images.read_with_state("a.png")
    assert data == PICTURE
    assert state is not None
    assert images.state("a.png") == images.status("a.png").state == state
    assert images.status("a.png").modified is not None
    assert images.open("a.png").size == (60, 50)
    bucket.put_as("pre/a.png", PICTURE + b"more")
    assert images.state("a.png") != state
    assert images.state("none.png") is None


@pytest.mark.parametrize("name", ["ü ö/100% #1?&=+.png", "a/b/c d.png", "e\u0301~[x]{y}\\^.png", "%41.png"])
def test_any_name_that_can_be_a_key_is_found_by_listing_and_by_reading(name, images, bucket):
    bucket.put_as(f"pre/{name}", b"bytes of it")
    assert images.read(name) == b"bytes of it"
    assert set(images.images()) == {"a.png", name}


def test_a_path_means_what_it_means_in_a_folder(images):
    assert images.read("x/.././/a.png") == PICTURE


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../secret.png", OutsideRoot),
        ("x/../../secret.png", OutsideRoot),
        ("/pre/a.png", OutsideRoot),
        ("a\0.png", MissingImage),
        ("a\n.png", UnsupportedImage),
        ("", UnsupportedImage),
        (".", UnsupportedImage),
        ("x" * 5000, MissingImage),
        ("none.png", MissingImage),
        ("pre/a.png", MissingImage),
        ("a.png/b.png", MissingImage),
    ],
)
def test_no_path_leads_out_and_a_wrong_one_is_its_images_error(path, error, images, bucket):
    bucket.put_as("secret.png", b"out of reach")
    for use in (images.read, images.status, images.open):
        with pytest.raises(error):
            use(path)


def test_a_large_object_is_refused_before_it_is_read(bucket):
    small = ImageRoot(f"{bucket.address}/pre", DecodeConfig(max_bytes=len(PICTURE) - 1))
    with pytest.raises(ImageTooLarge, match="the limit is"):
        small.read("a.png")


def test_objects_are_listed_in_order_and_the_others_told(images, bucket):
    for key in ("b.JPG", "c/d.webp", "without", "c/.hidden.png", ".dir/e.png", "note.txt", "f.pdf"):
        bucket.put_as(f"pre/{key}", PICTURE)
    bucket.put_as("pre/text", b"just a text without an extension")
    tally = Tally()
    assert list(images.images(tally.add)) == ["a.png", "b.JPG", "c/d.webp", "without"]
    assert tally.counts == {HIDDEN: 2, NO_IMAGE: 1, NO_EXTENSION: 1, "PDF": 1}
    assert list(ImageRoot(f"{bucket.address}/pre/c").images()) == ["d.webp"]


def test_a_store_is_listed_page_by_page(bucket, images, monkeypatch):
    for number in range(1100):
        (bucket.folder / "pre" / f"{number:04}.png").write_bytes(b"x")
    with BreakingProxy(bucket.endpoint) as proxy:
        listed = through(proxy, bucket, monkeypatch).images()
        assert next(listed) == "0000.png"
        assert proxy.requests == 1
        assert sum(1 for _ in listed) == 1100
        assert proxy.requests == 2


def test_a_key_that_is_no_path_is_named(bucket, images):
    bad = bucket.folder / "pre" / "line\nbreak.png"
    bad.write_bytes(b"x")
    with pytest.raises(BadKey, match=r"rename the object"):
        list(images.images())
    # the store is there all the same
    with pytest.raises(MissingImage):
        images.read("none.png")


def test_a_bucket_that_is_gone_or_empty_blames_no_image(images, bucket):
    with pytest.raises(ImageRootUnavailable, match="is empty"):
        ImageRoot(f"{bucket.address}/other").read("a.png")
    bucket.vanish()
    for use in (images.read, images.status, images.state):
        with pytest.raises(ImageRootUnavailable, match="404 NoSuchBucket: The specified bucket does not exist"):
            use("a.png")
    with pytest.raises(ImageRootUnavailable, match="NoSuchBucket"):
        list(images.images())


def test_refused_credentials_blame_no_image_and_are_not_shown(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a wrong one")
    images = ImageRoot(f"{bucket.address}/pre")
    for use in (images.read, images.status):
        with pytest.raises(ImageRootUnavailable, match="403 SignatureDoesNotMatch") as caught:
            use("a.png")
        assert "a wrong one" not in str(caught.value)


def test_a_server_that_is_not_there_blames_no_image(bucket, monkeypatch):
    with BreakingProxy(bucket.endpoint) as proxy:
        images = through(proxy, bucket, monkeypatch)
    with pytest.raises(ImageRootUnavailable, match=r"a.png in s3://.*127.0.0.1:\d+/.*: Connection refused"):
        images.read("a.png")


def test_a_throttled_request_is_repeated_and_then_waits(bucket, monkeypatch):
    with BreakingProxy(bucket.endpoint) as proxy:
        images = through(proxy, bucket, monkeypatch)
        proxy.refusals = 2
        assert images.read("a.png") == PICTURE
        assert proxy.requests == 3
        proxy.refusals = 1000
        with pytest.raises(ImageRootUnavailable, match="503 SlowDown: Please reduce your request rate"):
            images.read("a.png")
        proxy.refusals = 0
        assert images.read("a.png") == PICTURE


def test_a_body_that_ends_early_is_completed_and_never_taken_for_whole(bucket, monkeypatch):
    large = bytes(range(256)) * 4000
    bucket.put_as("pre/large.png", large)
    with BreakingProxy(bucket.endpoint) as proxy:
        images = through(proxy, bucket, monkeypatch)
        proxy.cut_after, proxy.cuts = 500_000, 1
        assert images.read("large.png") == large
        assert proxy.cuts == 0
        proxy.cut_after, proxy.cuts = 1000, 1000
        with pytest.raises(ImageRootUnavailable, match=r"large.png in s3://"):
            images.read("large.png")


def test_features_are_found_by_the_objects_state_and_deleted_with_it(images, bucket, tmp_path):
    config = FeatureConfig()
    with closing(FeatureStore(tmp_path, 10**9, config)) as store:
        cache = FeatureCache(config, store=store)
        cache.get(images, "a.png")
        cache.get(images, "a.png")
        assert cache.found == {FeatureSource.MEMORY: 1, FeatureSource.DISK: 0, FeatureSource.COMPUTED: 1}
        store.flush()
        beside = FeatureCache(config, store=store)
        beside.get(images, "a.png")
        assert beside.found[FeatureSource.DISK] == 1
        bucket.put_as("pre/a.png", stored(2))
        beside.get(images, "a.png")
        assert beside.found[FeatureSource.COMPUTED] == 1
        store.flush()
        assert store.count() == 1
        bucket.put_as("pre/b.png", PICTURE)
        bucket.delete("pre/a.png")
        store._retention.delete_stale(8)
        assert store.count() == 0


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("ftp://host/a", "ftp:// is not known"),
        ("s3://", "followed by the name of a bucket"),
        ("s3://key:secret@bucket/a", "credentials do not belong in the address"),
        ("s3://bucket/a?b", "neither '\\?' nor '#'"),
        ("s3://bucket/../other", "no parts of an address"),
        ("az://container/a", "Account must be specified"),
    ],
)
def test_a_wrong_address_is_a_wrong_setting(address, what, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigError, match=what):
        ImageRoot(address)


def test_other_stores_are_opened_by_their_own_variables(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert ImageRoot("az://container/pre").name == "az://container/pre"
    assert ImageRoot("gs://bucket/pre/").name == "gs://bucket/pre"
    assert ImageRoot(Path("a/b")).folder == Path("a/b")
