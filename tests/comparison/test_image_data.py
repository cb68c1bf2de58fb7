"""Images in tar files and at URLs: the same result as from a folder."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq.comparison import Comparison, compare
from edgeq.comparison.image_data import content_of, open_images, read_shard
from edgeq.comparison.tars import expand_tars, read_from_tar
from edgeq.errors import EdgeqError, ImageError, InputError

fsspec = pytest.importorskip("fsspec")

Pair = tuple[Path, Path]
COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def pair(mobilenet_models: Path) -> Pair:
    fp32, int8 = (mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8"))
    return fp32, int8


@pytest.fixture(scope="module")
def pictures(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos with a labels.csv, and a damaged one."""
    folder = tmp_path_factory.mktemp("labelled") / "pictures"
    rows = ["file,class_index"]
    for index, colour in enumerate(COLOURS):
        (folder / colour).mkdir(parents=True)
        for photo in sorted((photos / colour).iterdir()):
            os.link(photo, folder / colour / photo.name)
            rows.append(f"{colour}/{photo.name},{index}")
    (folder / "red" / "99.jpg").write_bytes(b"\xff\xd8 cut off")
    (folder / "labels.csv").write_text("\n".join([*rows, "red/99.jpg,2"]))
    return folder


@pytest.fixture(scope="module")
def tars(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same pictures in shard-000.tar to shard-002.tar, as WebDataset writes them."""
    folder = tmp_path_factory.mktemp("tars") / "shards"
    folder.mkdir()
    for index, colour in enumerate(COLOURS):
        with tarfile.open(folder / f"shard-{index:03}.tar", "w") as tar:
            for photo in sorted((pictures / colour).iterdir()):
                for suffix, content in (("jpg", photo.read_bytes()), ("cls", str(index).encode())):
                    add(tar, f"{colour}/{photo.stem}.{suffix}", content)
    return folder


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def expected(pair: Pair, pictures: Path) -> str:
    result = compare(*pair, pictures)
    assert result.flips
    assert (result.images, result.labelled, len(result.skipped)) == (36, 36, 1)
    return text(result, f"{pictures}/")


def text(result: Comparison, root: str) -> str:
    """The JSON without latencies and notes, and with file names relative to `root`."""
    document = result.to_json()
    for side in ("reference", "candidate"):
        del document[side]["latency_ms"]
    assert document.pop("notes")[0].startswith("true classes from")
    content = json.dumps(document)
    for number in range(3):
        content = content.replace(f"{root}shard-{number:03}.tar/", "")
    return content.replace(root, "")


@pytest.fixture(scope="module")
def server(pictures: Path, tars: Path) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server of the folder above the tars, and the paths that were requested."""
    requested: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, form: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            requested.append(self.path)
            super().do_GET()

    (tars.parent / "pictures").symlink_to(pictures)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tars.parent))
    ) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", requested
        serving.shutdown()
        thread.join()


class TestSameResult:
    @pytest.mark.parametrize("name", ["{}", "{}/shard-*.tar", "{}/shard-{{000..002}}.tar"])
    def test_local_tars(self, name: str, pair: Pair, tars: Path, expected: str) -> None:
        assert text(compare(*pair, name.format(tars), labels_needed=True), f"{tars}/") == expected

    def test_a_folder_in_memory(self, pair: Pair, pictures: Path, expected: str) -> None:
        memory = fsspec.filesystem("memory")
        memory.put(str(pictures), "/kept/pictures", recursive=True)
        result = compare(*pair, "memory://kept/pictures", shard_images=10)
        assert "true classes from labels.csv" in result.notes
        assert text(result, "memory://kept/pictures/") == expected
        listed = compare(*pair, "memory://kept/pictures/labels.csv")
        assert text(listed, "memory://kept/pictures/") == expected

    def test_tars_in_memory(self, pair: Pair, tars: Path, expected: str) -> None:
        fsspec.filesystem("memory").put(str(tars), "/kept/tars", recursive=True)
        result = compare(*pair, "memory://kept/tars/shard-*.tar")
        assert text(result, "memory://kept/tars/") == expected

    def test_a_folder_over_http(self, pair: Pair, server: tuple[str, list[str]], expected: str) -> None:
        pytest.importorskip("aiohttp")
        result = compare(*pair, f"{server[0]}/pictures")
        assert text(result, f"{server[0]}/pictures/") == expected

    def test_tars_over_http_are_read_once(self, pair: Pair, server: tuple[str, list[str]], expected: str) -> None:
        pytest.importorskip("aiohttp")
        url, requested = server
        requested.clear()
        result = compare(*pair, f"{url}/shards/shard-{{000..002}}.tar")
        assert text(result, f"{url}/shards/") == expected
        assert len(requested) <= 3 + 1  # the first one also to see whether it has classes

    def test_layers(self, pair: Pair, tars: Path) -> None:
        result = compare(*pair, tars, layers=True, layer_images=6)
        assert result.layers


MEMBERS = (("a.jpg", None, b"1"), ("b.left.png", 1, b"2"), ("b.right.png", 1, b"3"))


class TestTars:
    def test_images_without_classes(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            add(tar, "a.jpg", b"1")
            add(tar, "a.json", b"{}")
            add(tar, "b.left.png", b"2")
            add(tar, "b.right.png", b"3")
            add(tar, "b.cls", b"1\n")
        images = open_images(tmp_path / "a.tar", 2)
        assert not images.labelled
        found = [(image.name, image.class_index, image.content) for image in read_shard(images.shard(0))]
        assert found == [(str(tmp_path / "a.tar" / name), *rest) for name, *rest in MEMBERS]

    @pytest.mark.parametrize(
        ("label", "problem"),
        [
            (b"cat", "a.cls: must hold a class index, such as 281, not 'cat'"),
            (b"2", "a.cls: class 2, but the models have 2"),
        ],
    )
    def test_an_invalid_class(self, label: bytes, problem: str, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            add(tar, "a.jpg", b"1")
            add(tar, "a.cls", label)
        with pytest.raises(InputError, match=problem):
            open_images(tmp_path / "a.tar", 2)

    def test_a_tar_that_is_cut_off(self, pair: Pair, tars: Path, tmp_path: Path) -> None:
        content = (tars / "shard-000.tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(content[: len(content) // 2 + 100])
        with pytest.raises(InputError, match=r"a\.tar: not a whole tar file"):
            compare(*pair, tmp_path / "a.tar")

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no\.tar: no such file"):
            open_images(tmp_path / "no.tar", 2)
        with pytest.raises(InputError, match="no tar file has such a name"):
            open_images(tmp_path / "no-*.tar", 2)
        (tmp_path / "text.tar").write_text("no tar" * 1000)
        with pytest.raises(InputError, match="not a whole tar file"):
            open_images(tmp_path / "text.tar", 2)

    def test_a_range_keeps_its_zeros(self) -> None:
        assert expand_tars("s3://b/{08..10}.tar") == ["s3://b/08.tar", "s3://b/09.tar", "s3://b/10.tar"]

    def test_an_empty_range(self) -> None:
        with pytest.raises(InputError, match=r"the range \{10\.\.08\} is empty; give the lower number first"):
            open_images("{10..08}.tar", 2)

    def test_one_image_by_its_name(self, pictures: Path, tars: Path) -> None:
        content = (pictures / "red" / "99.jpg").read_bytes()
        assert read_from_tar(f"{tars}/shard-002.tar/red/99.jpg") == content
        for name in (
            f"{tars}/shard-002.tar/red/none.jpg",
            f"{tars}/none.tar/red/99.jpg",
            "red/99.jpg",
            "s3://b/a.tar/a",
        ):
            assert read_from_tar(name) is None

    def test_a_file_that_claims_a_terabyte(self, tmp_path: Path) -> None:
        member = tarfile.TarInfo("a.jpg")
        member.size = 1 << 40
        (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(1 << 14))
        with pytest.raises(InputError, match=r"a\.tar/a\.jpg: has 1099511627776 bytes, which is too large"):
            open_images(tmp_path / "a.tar", 2)

    def test_a_folder_of_images_with_a_tar_beside_them_is_a_folder_of_images(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").touch()
        (tmp_path / "backup.tar").touch()
        assert open_images(tmp_path, 2).total == 1


class TestOnACluster:
    """Images that are read on a worker, which is given the folder that relative paths start from."""

    def test_absolute_and_relative_paths(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"1")
        assert content_of("a.jpg", str(tmp_path)) == content_of(str(tmp_path / "a.jpg"), "/") == b"1"

    def test_what_is_skipped(self, tmp_path: Path) -> None:
        (tmp_path / "folder.jpg").mkdir()
        for name, problem in (("folder.jpg", "is a folder"), ("none.jpg", "no such file")):
            with pytest.raises(ImageError, match=f"^{name}: {problem}"):
                content_of(name, str(tmp_path))

    @pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails while it is read")
    def test_what_fails_is_tried_again(self) -> None:
        with pytest.raises(OSError, match="Input/output error") as caught:
            content_of("/proc/self/mem", "/")
        assert not isinstance(caught.value, EdgeqError)


class TestUrls:
    def test_sub_folders_are_classes(self) -> None:
        memory = fsspec.filesystem("memory")
        for name in ("cat/1.jpg", "dog/2.png", "dog/.hidden.png", "dog/notes.txt"):
            memory.pipe(f"/classes/{name}", b"x")
        images = open_images("memory://classes/", 2, ("dog", "cat"))
        assert images.shard(0)["files"] == [("memory://classes/cat/1.jpg", 1), ("memory://classes/dog/2.png", 0)]
        assert images.notes == (
            "true classes from the sub-folders, by the models' labels",
            "skipped 1 file that is not an image",
        )

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("memory://nowhere", "memory://nowhere: no such folder, or an empty one"),
            ("memory://nowhere/a.csv", "memory://nowhere/a.csv: no such file"),
            ("memory://nowhere/a.tar", "memory://nowhere/a.tar: no such file"),
            ("gopher9://host/a.tar", "gopher9://host/a.tar: .*gopher9"),
        ],
    )
    def test_what_is_not_there(self, url: str, problem: str) -> None:
        with pytest.raises(EdgeqError, match=problem):
            open_images(url, 2)
