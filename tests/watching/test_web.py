"""The page's server: who may use it, what it sends, and what it withstands. Real sockets, without a browser."""

from __future__ import annotations

import io
import json
import logging
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, colour_picture
from PIL import Image

import edgeq
from edgeq.errors import EdgeqError, InputError
from edgeq.watching.web import handlers, pictures, server
from edgeq.watching.web.address import Address, listen, parse_address
from watching.web import LABELS, RED, Client, FolderKeeper, jpeg, observed, page_threads


@pytest.fixture
def keeper(tmp_path: Path) -> FolderKeeper:
    return FolderKeeper(tmp_path)


@pytest.fixture
def page(keeper: FolderKeeper) -> Iterator[edgeq.WatchPage]:
    with edgeq.WatchPage("0", LABELS, model="m.tflite", source="camera", keeper=keeper) as opened:
        yield opened
    assert page_threads() == []


@pytest.fixture
def client(page: edgeq.WatchPage) -> Client:
    return Client(page)


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [
            ("8000", "127.0.0.1", 8000),
            ("0.0.0.0:80", "0.0.0.0", 80),
            ("[::1]:8000", "::1", 8000),
            ("pi.local:0", "pi.local", 0),
        ],
    )
    def test_host_and_port(self, text: str, host: str, port: int) -> None:
        assert parse_address(text) == Address(host, port)

    @pytest.mark.parametrize("text", ["", "x", ":80", "::1:80", "localhost", "1.2.3.4:", "65536", "-1", "8000/", "٣"])
    def test_not_an_address(self, text: str) -> None:
        with pytest.raises(InputError, match="not an address") as caught:
            parse_address(text)
        assert "\n" not in str(caught.value)

    def test_only_loopback_is_without_token(self) -> None:
        alone = [host for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9") if Address(host, 1).is_loopback]
        assert len(alone) == 4
        assert not any(Address(host, 1).is_loopback for host in ("0.0.0.0", "::", "192.168.1.2", "pi.local"))

    def test_a_port_in_use(self, client: Client) -> None:
        with pytest.raises(InputError, match=rf"^127\.0\.0\.1:{client.port}: the port is in use; choose another one$"):
            listen(Address("127.0.0.1", client.port))

    def test_not_of_this_machine(self) -> None:
        with pytest.raises(InputError, match="not an address of this machine"):
            listen(Address("192.0.2.1", 0))
        with pytest.raises(InputError, match="no such host"):
            listen(Address("nowhere.invalid", 0))

    def test_a_port_without_the_right_to_it(self) -> None:
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
            pytest.skip("every user may use low ports here")
        code = (
            "import os, encodings.idna; from edgeq.watching.web.address import *; os.getuid() or os.setuid(65534); "
            "listen(parse_address('81'))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "127.0.0.1:81: ports below 1024 need special rights; choose another one, such as 8000" in done.stderr


class TestAccess:
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "", "192.0.2.7:{port}", "127.0.0.1.evil"])
    def test_another_host(self, client: Client, host: str) -> None:
        assert client.ask("/", Host=host.format(port=client.port))[0] in (400, 403)
        assert client.ask("/", Host=None)[0] in (400, 403)

    def test_the_name_of_this_machine_elsewhere(self, client: Client) -> None:
        assert client.ask("/", Host=f"{socket.gethostname()}.evil.example")[0] == 403

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "[::1]:1"])
    def test_names_of_this_machine(self, client: Client, host: str) -> None:
        """With other ports, too: an SSH tunnel may end at another one."""
        assert client.ask("/api/state", Host=host)[0] == 200

    def test_another_origin(self, client: Client, page: edgeq.WatchPage) -> None:
        page.show(observed(1))
        client.ask("/api/frame.jpg")
        origins = ("http://evil.example", "null", "http://127.0.0.1:1", f"https://{client.host}", "", None)
        codes = [client.ask("/api/keep", "POST", {"frame": 1}, Origin=origin)[0] for origin in origins]
        assert codes == [403] * 6
        assert client.ask("/api/state", Origin="http://evil.example")[0] == 403
        assert client.ask("/api/keep", "POST", {"frame": 1})[0] == 200

    def test_a_page_elsewhere_may_link_but_not_embed(self, client: Client) -> None:
        embedded = client.ask("/stream.mjpg", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")
        assert embedded[0] == 403
        assert client.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200

    def test_a_token_is_needed_where_others_can_connect(self) -> None:
        with edgeq.WatchPage("0.0.0.0:0", LABELS) as page:
            client = Client(page)
            assert client.token is not None
            assert len(client.token) >= 32
            paths = ("/", "/watch.js", "/api/state", "/api/frame.jpg", "/stream.mjpg", "/api/events", "/other")
            assert [client.ask(path)[0] for path in paths] == [401] * 7
            assert client.ask("/api/keep", "POST", {"frame": 1})[0] == 401
            assert client.ask("/?token=" + "x" * len(client.token))[0] == 401
            assert client.ask(f"/api/state?token={client.token}")[0] == 401

            status, headers, _ = client.ask(f"/?token={client.token}")
            cookie = headers["Set-Cookie"]
            assert (status, headers["Location"]) == (303, "/")
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            given = cookie.partition(";")[0]
            assert client.ask("/", Cookie=given)[0] == 200
            assert client.ask("/api/state", Authorization=f"Bearer {client.token}")[0] == 200
            assert client.ask("/api/state", Authorization="Bearer wrong")[0] == 401
            assert client.ask("/api/state", Cookie=given, Host="evil.example")[0] == 403
            assert client.ask("/api/state", Cookie=given, Host=f"192.168.1.7:{client.port}")[0] == 200
            name = socket.gethostname().partition(".")[0]
            for host in (name, name.upper(), f"{name}.local", f"{name}.fritz.box:{client.port}"):
                assert client.ask("/api/state", Cookie=given, Host=host)[0] == 200
            assert client.ask("/api/state", Cookie=given, Host=f"evil.{name}")[0] == 403
            assert client.ask("/api/state", Host=f"{name}.fritz.box")[0] == 401

    def test_each_start_has_another_token(self) -> None:
        with edgeq.WatchPage("0.0.0.0:0") as one, edgeq.WatchPage("0.0.0.0:0") as two:
            assert Client(one).token != Client(two).token


class TestLimits:
    @pytest.mark.parametrize(
        "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..%2fserver.py", "/index.html"]
    )
    def test_no_other_file(self, client: Client, path: str) -> None:
        status, _, body = client.ask(path)
        assert (status, json.loads(body)) == (404, {"error": "no such page"})

    def test_a_body_that_is_too_large(self, client: Client) -> None:
        """It is announced, but not sent: what a server has not read when it closes can reset the connection."""
        assert client.ask("/api/keep", "POST", Content_Length="5000")[0] in (400, 413)

    def test_headers_that_are_too_large(self, client: Client) -> None:
        with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
            with suppress(ConnectionResetError):
                assert not connection.recv(100).startswith(b"HTTP/1.1 200")

    def test_a_slow_request_is_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "REQUEST_S", 0.3)
        with edgeq.WatchPage("0") as page, socket.create_connection(("127.0.0.1", Client(page).port)) as connection:
            connection.settimeout(10)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
            assert connection.recv(100) == b""

    def test_too_many_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
        with edgeq.WatchPage("0") as page:
            client = Client(page)
            with client.view("/api/events") as one, client.view("/api/events") as two:
                client.read_until(one, b"data:")
                client.read_until(two, b"data:")
                with client.view("/api/events") as three, suppress(ConnectionResetError):
                    assert three.recv(100) == b""
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert client.ask("/api/state")[0] == 200
                    break
                except (OSError, AssertionError):  # until the server has noticed
                    assert time.monotonic() < deadline
                    time.sleep(0.05)

    @pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"[" * 4000, b"\xff", b'{"frame": 1e999}', b'{"frame": true}'])
    def test_a_body_that_is_no_request(self, client: Client, page: edgeq.WatchPage, body: bytes) -> None:
        page.show(observed(1))
        client.ask("/api/frame.jpg")
        assert client.ask("/api/keep", "POST", body)[0] in (400, 410)


class TestPictures:
    def test_a_jpeg_passes_unchanged(self, client: Client, page: edgeq.WatchPage) -> None:
        assert client.ask("/api/frame.jpg")[0] == 404
        page.show(observed(7))
        status, headers, body = client.ask("/api/frame.jpg")
        assert (status, headers["X-Frame"], body) == (200, "7", RED)

    def test_arrays_files_and_large_photos(self, client: Client, page: edgeq.WatchPage, tmp_path: Path) -> None:
        colour_picture("green", 0).save(tmp_path / "a.png")
        large = jpeg("blue", 1400)
        assert len(large) > 1 << 19
        images = [np.asarray(colour_picture("red", 0)), tmp_path / "a.png", large]
        sizes = []
        for frame, image in enumerate(images, 1):
            page.show(observed(frame, image=image))
            sizes.append(Image.open(io.BytesIO(client.ask("/api/frame.jpg")[2])).size)
        assert sizes == [(48, 48), (48, 48), (1280, 1280)]

    def test_a_photo_that_is_gone_is_skipped(self, client: Client, page: edgeq.WatchPage, tmp_path: Path) -> None:
        page.show(observed(1))
        client.ask("/api/frame.jpg")
        page.show(observed(2, image=tmp_path / "gone.jpg"))
        assert client.ask("/api/frame.jpg")[1]["X-Frame"] == "1"

    def test_one_encoding_for_all_and_none_without_viewers(
        self, client: Client, page: edgeq.WatchPage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded: list[int] = []
        prepared = pictures._prepared

        def counted(item: edgeq.Observed) -> tuple[edgeq.Observed, bytes]:
            encoded.append(item.frame)
            return prepared(item)

        monkeypatch.setattr(pictures, "_prepared", counted)
        for frame in range(1, 20):
            page.show(observed(frame))
        time.sleep(0.3)
        assert encoded == []
        with client.view("/stream.mjpg") as one, client.view("/stream.mjpg") as two:
            for viewer in (one, two):
                client.read_until(viewer, b"X-Frame: 19")
            page.show(observed(20))
            for viewer in (one, two):
                client.read_until(viewer, b"X-Frame: 20")
        assert encoded == [19, 20]

    def test_a_slow_viewer_skips_frames_and_is_cut_off(
        self, client: Client, page: edgeq.WatchPage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handlers, "_SLOWEST_S", 0.5)
        image = RED + b"\0" * 400_000
        with client.view("/stream.mjpg") as slow, client.view("/stream.mjpg") as quick:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            seen = set()
            longest = 0.0
            for frame in range(1, 26):
                start = time.thread_time()
                page.show(observed(frame, image=image))
                longest = max(longest, time.thread_time() - start)
                content = client.read_until(quick, rb"X-Frame: \d+")
                seen |= set(re.findall(rb"X-Frame: (\d+)", content))
                time.sleep(0.1)
            assert len(seen) > 10
            assert longest < 0.02  # `show` does not wait for anyone
            received = b"".join(iter(lambda: slow.recv(1 << 20), b""))  # ends: the server has closed it
            assert 0 < received.count(b"X-Frame") < 25


class TestState:
    def test_what_is_shown(self, client: Client, page: edgeq.WatchPage) -> None:
        page.show(observed(1, "red"))
        page.show(observed(2, "red", changed=False))
        page.show(observed(3, None))
        page.show(edgeq.Interruption(5.0, "camera: unplugged", 2.0))
        state = client.json("/api/state")
        assert state["latest"] == json.loads(json.dumps(observed(3, None).to_json()))
        assert state["interruption"] == {
            "event": "interruption",
            "time": 5.0,
            "reason": "camera: unplugged",
            "wait_s": 2.0,
        }
        assert [(event["event"], event.get("label")) for event in state["events"]] == [
            ("interruption", None),
            ("label", None),
            ("label", "red"),
        ]
        assert state["summary"]["labels"] == [
            {"label": "red", "frames": 2, "mean_probability": 0.815},
            {"label": None, "frames": 1, "mean_probability": 0.83},
        ]
        assert client.json("/api/labels") == {"labels": list(LABELS)}
        page.show(observed(4))
        assert client.json("/api/state")["interruption"] is None

    def test_events_follow_the_state(self, client: Client, page: edgeq.WatchPage) -> None:
        with client.view("/api/events") as viewer:
            assert b'"latest": null' in client.read_until(viewer, b"\n\n")
            for frame in (1, 2):
                page.show(observed(frame))
                assert b'"throttling": null' in client.read_until(viewer, b'"frame": %d' % frame)

    def test_a_firmware_that_reports_throttling(
        self, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "vcgencmd"
        program.write_text("#!/bin/sh\necho throttled=0x50005\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        assert "under-voltage" in client.json("/api/state")["throttling"]

    def test_a_policy_that_loads_nothing_from_elsewhere(self, client: Client) -> None:
        for path in ("/", "/api/state", "/other"):
            headers = client.ask(path)[1]
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "http" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Server"] is None


class TestKeeping:
    def test_the_frame_that_was_seen(self, client: Client, page: edgeq.WatchPage, keeper: FolderKeeper) -> None:
        page.show(observed(1))
        client.ask("/api/frame.jpg")
        page.show(observed(2, image=jpeg("blue")))
        assert client.post("/api/keep", frame=2)[0] == 410  # nobody saw it
        assert client.post("/api/keep", frame=1) == (200, {"frame": 1, "file": str(keeper.folder / "1.jpg")})
        assert client.post("/api/label", frame=1, label="green")[0] == 200
        assert keeper.kept == [(1, None), (1, "green")]
        assert (keeper.folder / "1.jpg").read_bytes() == RED

    def test_an_array_is_kept_as_the_jpeg_that_was_seen(
        self, client: Client, page: edgeq.WatchPage, keeper: FolderKeeper
    ) -> None:
        page.show(observed(1, image=np.asarray(colour_picture("red", 0))))
        seen = client.ask("/api/frame.jpg")[2]
        client.post("/api/keep", frame=1)
        assert (keeper.folder / "1.jpg").read_bytes() == seen

    @pytest.mark.parametrize("label", ["purple", "", None, 1, ["red"], "<b>"])
    def test_only_the_models_labels(self, client: Client, page: edgeq.WatchPage, label: object) -> None:
        page.show(observed(1))
        client.ask("/api/frame.jpg")
        assert client.post("/api/label", frame=1, label=label)[0] == 400

    def test_a_reason_why_it_cannot_be_kept(self, client: Client, page: edgeq.WatchPage, keeper: FolderKeeper) -> None:
        keeper.folder = keeper.folder / "gone"
        page.show(observed(1))
        client.ask("/api/frame.jpg")
        status, answer = client.post("/api/keep", frame=1)
        assert status == 409
        assert answer["error"].endswith("1.jpg: cannot write: No such file or directory")

    def test_memory_is_bounded_and_a_held_frame_stays(
        self, client: Client, page: edgeq.WatchPage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pictures, "_REMEMBERED_BYTES", 3 * len(RED))
        for frame in range(1, 8):
            page.show(observed(frame))
            client.ask("/api/frame.jpg")
            if frame == 2:
                assert client.post("/api/hold", frame=1)[0] == 200
        known = [frame for frame in range(1, 8) if client.post("/api/keep", frame=frame)[0] == 200]
        assert known == [1, 5, 6, 7]

    def test_without_a_keeper(self) -> None:
        with edgeq.WatchPage("0", LABELS) as page:
            client = Client(page)
            assert client.json("/api/state")["keeps_photos"] is False
            assert client.post("/api/keep", frame=1) == (404, {"error": "photos are not kept"})


def send_random_requests(page: edgeq.WatchPage, count: int) -> None:
    """Damage real requests in many ways; what the server answers must never be its own error."""
    client, chance = Client(page), random.Random(5)
    good = [
        f"GET {path} HTTP/1.1\r\nHost: {client.host}\r\nConnection: close\r\n\r\n".encode()
        for path in ("/", "/watch.js", "/api/state", "/api/labels", "/api/frame.jpg", "/?token=abc")
    ] + [
        f"POST /api/{what} HTTP/1.1\r\nHost: {client.host}\r\nOrigin: http://{client.host}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for what, body in (("keep", '{"frame": 1}'), ("label", '{"frame": 1, "label": "red"}'), ("hold", "[[[["))
    ]
    words = [
        b"\r\n",
        b"\0",
        b"\xff\xfe",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"%00",
        b"%ff",
        b"/..",
    ]
    words += [
        b"Cookie: a=\x80;=;\r\n",
        b"Host: [\r\n",
        b"Expect: 100-continue\r\n",
        b"\xd8\x00",
        b"HTTP/9.9",
        b"?token=%C3",
    ]
    for _ in range(count):
        request = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 5)):
            place = chance.randrange(len(request))
            kind = chance.randrange(4)
            if kind == 0:
                request[place] = chance.randrange(256)
            elif kind == 1:
                request[place:place] = chance.choice(words)
            elif kind == 2:
                del request[place : place + chance.randrange(1, 30)]
            else:
                lines = request.split(b"\r\n")
                lines.insert(chance.randrange(len(lines)), bytearray(chance.choice(words).strip()))
                request = bytearray(b"\r\n".join(lines))
            request = request or bytearray(b"x")
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(200)
            except ConnectionResetError:
                answer = b""
        assert b" 500 " not in answer[:20], bytes(request)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.accept)])
def test_random_requests(
    count: int,
    client: Client,
    page: edgeq.WatchPage,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    page.show(observed(1))
    with caplog.at_level(logging.ERROR):
        send_random_requests(page, count)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert "Traceback" not in capfd.readouterr().err
    assert client.json("/api/state")["latest"]["frame"] == 1


def test_without_tornado(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edgeq.watching.web.server")
    monkeypatch.delattr("edgeq.watching.web.server")
    monkeypatch.setitem(sys.modules, "tornado.httpserver", None)
    with pytest.raises(EdgeqError, match=r"needs Tornado, which is not installed: pip install 'edgeq\[web\]'"):
        edgeq.WatchPage("0")


def test_tornado_is_imported_for_a_page_only() -> None:
    code = "import sys, edgeq.cli.watch, edgeq.watching.web; sys.exit({'tornado', 'asyncio'} & {*sys.modules} != set())"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


class TestCommand:
    def start(self, models: Path, *options: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "edgeq",
            "watch",
            "-",
            "--model",
            str(models / "colours_int8.tflite"),
            *options,
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)

    def test_ctrl_c_with_open_viewers(self, colour_models: Path) -> None:
        with self.start(colour_models, "--web", "0", "--json") as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            printed = process.stderr.readline().decode()
            port = re.fullmatch(r"Page: http://127\.0\.0\.1:(\d+)/\n", printed)
            assert port, printed
            process.stdin.write(RED * 3)
            process.stdin.flush()
            process.stdout.readline()
            with socket.create_connection(("127.0.0.1", int(port[1])), timeout=20) as viewer:
                viewer.sendall(f"GET /api/events HTTP/1.1\r\nHost: localhost:{port[1]}\r\n\r\n".encode())
                Client.read_until(viewer, b'"label": "red"')
                process.send_signal(signal.SIGINT)
                assert process.wait(20) == 130
            lines = process.stdout.read().splitlines()
            assert process.stderr.read().strip() == b"Interrupted."
        summary = json.loads(lines[-1])
        assert summary["event"] == "summary"
        assert summary["labels"][0]["label"] == "red"

    def test_a_port_in_use(self, client: Client, colour_models: Path) -> None:
        with self.start(colour_models, "--web", str(client.port)) as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, b"")
        assert err.decode() == f"Error: 127.0.0.1:{client.port}: the port is in use; choose another one\n"

    def test_a_bad_address(self, colour_models: Path) -> None:
        with self.start(colour_models, "--web", "localhost") as process:
            _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert err.startswith(b"Error: localhost: not an address; give a port")
        assert err.count(b"\n") == 1


def test_threads_end_and_the_port_is_free_again() -> None:
    with edgeq.WatchPage("0") as page:
        client = Client(page)
        viewers = [threading.Thread(target=lambda: client.ask("/api/events")) for _ in range(3)]
        for viewer in viewers:
            viewer.start()
        time.sleep(0.2)
    for viewer in viewers:
        viewer.join(10)
    assert page_threads() == []
    with edgeq.WatchPage(str(client.port)) as again:
        assert Client(again).json("/api/state")["latest"] is None
