"""The network as ONNX, and the folder that `python -m hwkit page` makes; what runs in it is tested in tests/browser."""

import gzip
import io
import json
import socket
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import vivid_unet

from hwkit.__main__ import main
from hwkit.runs import checkpoint
from hwkit.runs.onnx_export import onnx_model, unet_inputs, without_weights
from hwkit.show import page
from hwkit.unet import UNetConfig

SHAPES = [UNetConfig(base=16), UNetConfig(base=16, multipliers=(1, 2), patch=2), UNetConfig(base=32, multipliers=(1,))]


def answers(model: bytes, x: np.ndarray, t: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x, "t": np.full(len(x), t)})[0]


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_the_network_as_onnx_says_what_it_says_in_pytorch(config):
    """With the upsampling that torch.onnx would write wrongly, for one image and for three."""
    model = vivid_unet(config).eval()
    proto = onnx_model(model, unet_inputs(model), "output")
    onnx.checker.check_model(proto)
    for count, t in ((1, 1), (3, 17)):
        x = torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = model(x, torch.full((count,), t)).numpy()
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(answers(proto.SerializeToString(), x.numpy(), t), expected, atol=1e-5)


def test_a_graph_without_weights_takes_those_of_any_network_of_its_shape():
    """As the page does: all weights as one block of float32, in the order that the graph wants; alike ones too."""
    config = UNetConfig(base=16)
    graph, tensors = without_weights(vivid_unet(config), unet_inputs(vivid_unet(config)), "output")
    assert len(graph) < 200_000 and str(Path.cwd()).encode() not in graph and b"site-packages" not in graph
    model = vivid_unet(config, seed=5).eval()  # its group norms are all ones
    state = dict(model.named_parameters())
    assert {name for name, _ in tensors} == set(state)
    block = np.concatenate([state[name].detach().numpy().ravel() for name, _ in tensors])
    proto = onnx.load_from_string(graph)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            where = {entry.key: entry.value for entry in tensor.external_data}
            tensor.raw_data = block.tobytes()[int(where["offset"]) :][: int(where["length"])]
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
    x = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        expected = model(x, torch.tensor([9])).numpy()
    np.testing.assert_allclose(answers(proto.SerializeToString(), x.numpy(), 9), expected, atol=1e-5)


@pytest.mark.parametrize("guided", [False, True])
def test_export_writes_onnx_beside_the_weights(vivid_checkpoint, tmp_path, capsys, guided):
    """Of weights with a guide, as those of all runs are, the network alone."""
    own = tmp_path / "own.pt"
    own.write_bytes(vivid_checkpoint.read_bytes())
    if guided:
        content = checkpoint.load(own)
        checkpoint.add_guide(own, content)
    vivid_checkpoint = own
    assert main(["export", "--checkpoint", str(own), "--out", str(tmp_path), "--onnx"]) == 0
    assert "network.onnx" in capsys.readouterr().out
    proto = onnx.load(tmp_path / "network.onnx")
    (facts,) = (json.loads(entry.value) for entry in proto.metadata_props if entry.key == "hwkit")
    assert facts["recipe"]["T"] == 30 and facts["images_seen"] == 96
    denoise, x = checkpoint.load_denoiser(vivid_checkpoint), torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        expected = denoise.model(x, torch.full((2,), 7)).numpy()
    found = answers((tmp_path / "network.onnx").read_bytes(), x.numpy(), 7)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (tmp_path / checkpoint.EXPORTED).is_file()


@pytest.mark.parametrize("command", [["export", "--onnx"], ["page"]], ids=" ".join)
def test_without_onnx_one_sentence_says_what_to_install(command, vivid_checkpoint, tmp_path, monkeypatch, capsys, ort):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main([*command, "--checkpoint", str(vivid_checkpoint), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "pip install onnx onnxscript" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


# The folder


@pytest.fixture
def ort(tmp_path, monkeypatch) -> Path:
    """Stand-ins for the runtime's two files, which nothing runs here."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for script, wasm in (page.PLAIN, page.WEBGPU):
        (folder / script).write_text("export {}")
        (folder / wasm).write_bytes(b"\0asm" + bytes(1000))
    monkeypatch.setenv("HWKIT_ORT", str(tmp_path / "package"))
    monkeypatch.setattr(page, "OTHERS", ())
    return folder


def test_the_page_is_a_folder_of_files_that_name_each_other(vivid_checkpoint, tmp_path, capsys, ort):
    out = tmp_path / "site"
    assert main(["page", "--checkpoint", str(vivid_checkpoint), "--out", str(out)]) == 0
    assert "http.server" in capsys.readouterr().out
    facts = json.loads((out / "data" / "site.json").read_text("utf-8"))
    (network,) = facts["networks"]
    for name in (network["file"], facts["weights"], facts["classifier"]["file"], facts["classifier"]["weights"]):
        assert (out / "data" / name).is_file()
    assert {path.name for path in page.SOURCES.iterdir()} <= {path.name for path in out.iterdir()}
    content = checkpoint.load(out / "data" / facts["weights"])
    assert network["model"] == {**asdict(checkpoint.recipe_of(content).model), "multipliers": [1]}
    assert {name for name, _ in network["tensors"]} == set(content["weights"])
    images = np.frombuffer((out / "data" / facts["digits"]["file"]).read_bytes(), np.uint8).reshape(-1, 28, 28)
    assert sorted(facts["digits"]["labels"]) == facts["digits"]["labels"] == [*np.repeat(range(10), page.DIGITS_EACH)]
    assert len(images) == 10 * page.DIGITS_EACH and images.max(axis=(1, 2)).min() > 128
    assert (
        gzip.decompress((out / "runtime" / facts["runtime"]["wasm"]).read_bytes()) == (ort / page.PLAIN[1]).read_bytes()
    )
    assert "webgpu" not in facts["runtime"] and not list(out.rglob("*jspi*"))


@pytest.mark.parametrize("flags", [[], ["--webgpu"]], ids=["plain", "webgpu"])
def test_the_runtime_for_webgpu_is_a_flag(flags, vivid_checkpoint, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(page, "write_page", lambda content, out, name, webgpu: asked.append(webgpu) or 1)
    assert main(["page", "--checkpoint", str(vivid_checkpoint), "--out", str(tmp_path), *flags]) == 0
    assert asked == [bool(flags)]


def test_the_page_asks_nobody_else(tmp_path):
    """Its policy lets nothing in but its own files, and none of them names another host but for words to read."""
    html = (page.SOURCES / "index.html").read_text("utf-8")
    (policy,) = [line for line in html.splitlines() if "Content-Security-Policy" in line]
    assert (
        "default-src 'none'" in policy and "http" not in policy.split("content=")[1] and "unsafe-inline" not in policy
    )
    for path in page.SOURCES.iterdir():
        named = [part for part in path.read_text("utf-8").split("http")[1:] if part.startswith(("://", "s://"))]
        assert {part.split("/")[2].split(":")[0].split("<")[0] for part in named} <= {"127.0.0.1", "www.w3.org"}, path


# The runtime


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


CONTENT = (b"script", b"\0asm", b"script that waits", b"\0asm that waits")
PACKAGE = {f"package/dist/{name}": data for name, data in zip((*page.PLAIN, *page.WEBGPU), CONTENT, strict=True)}


def test_the_runtime_is_taken_from_npms_package(tmp_path, monkeypatch):
    (tmp_path / "ort.tgz").write_bytes(archive(PACKAGE))
    monkeypatch.setenv("HWKIT_ORT", str(tmp_path / "ort.tgz"))
    files, facts = page.runtime()
    assert files[f"runtime/{facts['runtime']['script']}"] == b"script"
    assert gzip.decompress(files[f"runtime/{facts['runtime']['wasm']}"]) == b"\0asm"
    assert len(files) == 2


def test_the_runtime_for_webgpu_is_taken_too_where_it_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "ort.tgz").write_bytes(archive(PACKAGE))
    monkeypatch.setenv("HWKIT_ORT", str(tmp_path / "ort.tgz"))
    files, facts = page.runtime(webgpu=True)
    plain, more = facts["runtime"], facts["runtime"]["webgpu"]
    assert {f"runtime/{each[part]}" for each in (plain, more) for part in ("script", "wasm")} == set(files)
    assert files[f"runtime/{more['script']}"] == b"script that waits"
    assert gzip.decompress(files[f"runtime/{more['wasm']}"]) == b"\0asm that waits"


@pytest.mark.parametrize(
    "data", [b"", b"a text", archive({"package/dist/other.js": b""})], ids=["empty", "text", "other"]
)
def test_another_file_is_refused(data, tmp_path, monkeypatch):
    (tmp_path / "ort.tgz").write_bytes(data)
    monkeypatch.setenv("HWKIT_ORT", str(tmp_path / "ort.tgz"))
    with pytest.raises(ValueError, match=r"ort.tgz is not the npm package onnxruntime-web"):
        page.runtime()


def test_a_folder_without_the_runtime_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HWKIT_ORT", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"none, which has no ort\.wasm"):
        page.runtime()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("HWKIT_ORT", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hwkit" / page.ORT


def test_the_runtime_is_kept_once_it_was_fetched(cache, monkeypatch):
    monkeypatch.setattr(page, "_download", lambda: archive(PACKAGE))
    first = page.runtime()
    assert sorted(path.name for path in cache.iterdir()) == sorted(page.PLAIN)
    monkeypatch.setattr(page, "_download", lambda: pytest.fail("it is there already"))
    assert page.runtime() == first


def test_without_a_network_one_sentence_says_what_to_fetch(cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(page, "ORT_URL", f"http://127.0.0.1:{free.getsockname()[1]}/ort.tgz")  # nobody listens
        with pytest.raises(FileNotFoundError, match=r"cannot be downloaded .*HWKIT_ORT"):
            page.runtime()
    assert not cache.exists()


def test_other_bytes_than_npms_are_refused(cache, tmp_path, monkeypatch):
    (tmp_path / "ort.tgz").write_bytes(archive(PACKAGE))
    monkeypatch.setattr(page, "ORT_URL", (tmp_path / "ort.tgz").as_uri())
    with pytest.raises(FileNotFoundError, match="what came are other bytes"):
        page.runtime()
    assert not cache.exists()
