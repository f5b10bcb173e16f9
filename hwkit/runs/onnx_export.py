"""A network as an ONNX file, for programs without Python: the kit's page in the browser is one."""

import copy
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwkit.files import write_bytes
from hwkit.layers import Upsample
from hwkit.runs.checkpoint import recipe_of
from hwkit.unet import UNet

NEEDED = ("onnx", "onnxscript")  # see requirements-page.txt


class PlainGroupNorm(nn.Module):
    """`nn.GroupNorm` of operators that ONNX has, with weights (C, 1, 1), so that they keep their names.

    torch.onnx would fold its own (C,) into nameless constants, which nobody could replace by other weights.
    """

    def __init__(self, norm: nn.GroupNorm):
        super().__init__()
        self.num_groups, self.eps = norm.num_groups, norm.eps
        self.weight = nn.Parameter(norm.weight.detach()[:, None, None].clone())
        self.bias = nn.Parameter(norm.bias.detach()[:, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        groups = x.reshape(-1, self.num_groups, channels // self.num_groups * height * width)
        return F.instance_norm(groups, eps=self.eps).reshape(-1, channels, height, width) * self.weight + self.bias


def plain(model: nn.Module) -> nn.Module:
    """A copy that computes the same with layers that torch.onnx writes rightly, in eval mode on the CPU.

    `layers.Upsample` sums its weights by avg_pool2d with divisor_override, which torch.onnx loses: x̂_0 would be off by
    up to 0.5. In the copy it does what it stands for, nearest neighbours and a convolution.
    """
    model = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Upsample):
                setattr(parent, name, nn.Sequential(*child))
            elif isinstance(child, nn.GroupNorm):
                setattr(parent, name, PlainGroupNorm(child))
    return model


def onnx_model(model: nn.Module, inputs: Mapping[str, Tensor], output: str):
    """The network as an `onnx.ModelProto`, float32, for any batch; `inputs` are an example of two images.

    Weights are initializers under their names in the state dict. ValueError where onnx or onnxscript is missing. Takes
    ten seconds or more.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"Writing ONNX needs {' and '.join(missing)}: python -m pip install {' '.join(NEEDED)}.")
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs)
    program = torch.export.export(plain(model), tuple(inputs.values()), dynamic_shapes=shapes)
    names = {"input_names": list(inputs), "output_names": [output]}
    proto = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")  # stack traces, with this machine's folders in them
        part.ClearField("doc_string")
    return proto


def unet_inputs(model: UNet) -> dict[str, Tensor]:
    """An example of what the U-Net takes: two images and their times."""
    return {"x": torch.randn(2, model.config.channels, 28, 28), "t": torch.tensor([1, 2])}


def without_weights(model: nn.Module, inputs: Mapping[str, Tensor], output: str):
    """All networks of this shape as an ONNX file (bytes) without weights, and (name, shape) of each that it wants.

    They are to be given in that order as one block of float32, in ONNX's words as the external data "weights".
    """
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        nn.init.normal_(parameter)  # torch.onnx would merge those that are alike, as zeros are
    proto, names = onnx_model(model, inputs, output), {name for name, _ in model.named_parameters()}
    tensors, offset = [], 0
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            size = 4 * torch.Size(tensor.dims).numel()
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = tensor.EXTERNAL
            for key, value in (("location", "weights"), ("offset", offset), ("length", size)):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
            tensors.append((tensor.name, list(tensor.dims)))
            offset += size
    if lost := names - {name for name, _ in tensors}:
        raise ValueError(f"This version of torch.onnx renames weights ({', '.join(sorted(lost)[:3])}): take another.")
    return proto.SerializeToString(), tensors


def export_onnx(content: Mapping, path: Path) -> None:
    """Writes a loaded checkpoint's network, without its guide, as ONNX; facts (recipe, loss, …) as metadata "hwkit".

    `x` (B, C, 28, 28) and `t` (B,) int64 → `output`, of x's shape; float32.
    """
    model = UNet(recipe_of(content).model)
    model.load_state_dict(content["weights"])
    proto = onnx_model(model, unet_inputs(model), "output")
    facts = {name: value for name, value in content.items() if name not in ("weights", "ema", "resume", "guide")}
    entry = proto.metadata_props.add()
    entry.key, entry.value = "hwkit", json.dumps(facts)
    write_bytes(path, proto.SerializeToString())
