"""Weights by download: a real server on this machine, real files, real networks."""

import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from lad_edge.backbones import frozen
from lad_edge.backbones.downloads import DOWNLOADS, Download, cache_folder, downloaded
from lad_edge.backbones.frozen import BACKBONES, backbone, weights_file
from lad_edge.backbones.wide_resnet import WIDE_RESNETS, WideResNet
from lad_edge.errors import DataError

pytestmark = pytest.mark.torch
NAME = "tiny_resnet"


class Publisher(ThreadingHTTPServer):
    """Serves `content` under every name; promises `promised` bytes, and keeps what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.promised, self.asked = b"", None, []

    def publishes(self, monkeypatch, content, sha256=None):
        self.content = content
        known = sha256 or hashlib.sha256(content).hexdigest()[:8]
        url = f"http://127.0.0.1:{self.server_port}/models/{NAME}-{known}.pth"
        monkeypatch.setitem(DOWNLOADS, NAME, Download(url, known))


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if not self.server.content:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.promised or len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAD_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def publisher(cache):
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def small_network(monkeypatch):
    """A backbone of this name with one block in each layer, and the bytes of its published weights."""
    monkeypatch.setitem(WIDE_RESNETS, NAME, (1, 1, 1))
    monkeypatch.setitem(BACKBONES, NAME, frozen._wide(NAME))
    torch.manual_seed(0)
    state, file = WideResNet((1, 1, 1)).state_dict(), io.BytesIO()
    torch.save({**state, "fc.bias": torch.zeros(1)}, file)
    return state, file.getvalue()


def test_weights_are_downloaded_once_and_loaded(publisher, cache, small_network, monkeypatch, capsys):
    state, content = small_network
    publisher.publishes(monkeypatch, content)
    for _ in range(2):
        loaded = backbone(NAME).pretrained(None).state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in state.items())
    assert len(publisher.asked) == 1
    assert [path.name for path in cache.iterdir()] == [publisher.asked[0].rpartition("/")[2]]
    assert capsys.readouterr().err.count(f"downloading http://127.0.0.1:{publisher.server_port}") == 1


def test_a_file_with_another_hash_is_refused_and_removed(publisher, cache, monkeypatch):
    publisher.publishes(monkeypatch, b"not the weights", sha256="00000000")
    with pytest.raises(DataError, match=r"tiny_resnet: tried.*sha256 expected 00000000…, found .*pass --weights FILE"):
        downloaded(NAME)
    assert list(cache.iterdir()) == []


def test_a_broken_connection_leaves_nothing_half_written(publisher, cache, monkeypatch):
    publisher.publishes(monkeypatch, b"x" * 1000)
    publisher.promised = 5000
    with pytest.raises(DataError, match="expected 5000 bytes, came 1000: the connection broke"):
        downloaded(NAME)
    assert list(cache.iterdir()) == []


def test_a_damaged_copy_in_the_cache_is_downloaded_again(publisher, cache, monkeypatch):
    publisher.publishes(monkeypatch, b"the weights")
    downloaded(NAME).write_bytes(b"the weightz")
    assert downloaded(NAME).read_bytes() == b"the weights"
    assert len(publisher.asked) == 2


def test_an_absent_file_says_what_was_tried_and_what_to_do(publisher, cache, monkeypatch):
    publisher.publishes(monkeypatch, b"")
    with pytest.raises(DataError, match=rf"tried to download http.*/models/{NAME}-.* 404.*pass --weights FILE"):
        downloaded(NAME)


def test_without_a_server_the_error_is_the_same(cache, monkeypatch):
    monkeypatch.setitem(DOWNLOADS, NAME, Download("http://127.0.0.1:1/tiny-00000000.pth", "00000000"))
    with pytest.raises(DataError, match=r"tried to download http://127.0.0.1:1/tiny.*refused.*pass --weights FILE"):
        downloaded(NAME)


def test_a_given_file_and_pip_weights_need_no_download(publisher, tmp_path, monkeypatch):
    publisher.publishes(monkeypatch, b"the weights")
    assert weights_file(NAME, tmp_path / "mine.pth") == tmp_path / "mine.pth"
    assert weights_file("efficientnet-lite0", None) is None
    assert publisher.asked == []
    assert weights_file(NAME, None) == downloaded(NAME)


@pytest.mark.parametrize("name", sorted(DOWNLOADS))
def test_every_published_file_carries_its_hash_and_comes_encrypted(name):
    assert name in BACKBONES
    assert DOWNLOADS[name].url.startswith("https://")
    assert DOWNLOADS[name].file_name.endswith(f"-{DOWNLOADS[name].sha256}.pth")
    assert len(DOWNLOADS[name].sha256) >= 8


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    for name in ("LAD_EDGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lad-edge"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard wants such a value ignored
    assert cache_folder() == tmp_path / ".cache" / "lad-edge"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_folder() == tmp_path / "shared" / "lad-edge"
    monkeypatch.setenv("LAD_EDGE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
