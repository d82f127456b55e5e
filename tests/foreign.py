"""Files with the structure of NVIDIA's, rosinality's and the encoders' own, written from their description.

An object of ``torch_utils.persistence`` pickles as a call of its ``_reconstruct_persistent_obj`` with one dict:
type, version, module_src, class_name, state. pickle wants to find what it names, so stand-ins with the right names
lie in sys.modules while it writes.
"""

import io
import pickle
import sys
from collections import OrderedDict
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import nn

SOURCE = "raise RuntimeError('the source inside of a pickle was run')\n"


def _reconstruct_persistent_obj(meta):
    raise RuntimeError("a persistent object was rebuilt")


class EasyDict(dict):
    pass


_reconstruct_persistent_obj.__module__, EasyDict.__module__ = "torch_utils.persistence", "dnnlib.util"


@contextmanager
def stand_ins():
    modules = {name: ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")}
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    modules["dnnlib.util"].EasyDict = EasyDict
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class Persistent:
    """A module as NVIDIA's classes pickle: its attributes are those of torch's modules and its own."""

    def __init__(self, class_name, parameters=(), buffers=(), modules=(), **attributes):
        self.class_name = class_name
        hooks = {f"_{kind}_hooks": OrderedDict() for kind in ("backward", "forward", "forward_pre", "state_dict")}
        self.attributes = {"training": False, "_parameters": OrderedDict(parameters), "_buffers": OrderedDict(buffers),
                           "_non_persistent_buffers_set": set(), "_modules": OrderedDict(modules)} | hooks  # fmt: skip
        self.attributes |= {"_init_args": (), "_init_kwargs": EasyDict(), **attributes}

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.class_name}
        return _reconstruct_persistent_obj, (meta | {"state": self.attributes},)


BUFFERS = {"noise_const", "resample_filter", "w_avg"}
CLASSES = {"mapping": "MappingNetwork", "synthesis": "SynthesisNetwork", "torgb": "ToRGBLayer",
           "conv0": "SynthesisLayer", "conv1": "SynthesisLayer", "affine": "FullyConnectedLayer"}  # fmt: skip


def persistent(state, name="Generator", clamp=None, **attributes):
    """A network of tensors named as by NVIDIA, {"synthesis.b4.const": ..}, as a tree of persistent modules."""
    own, inner = {}, {}
    for key, tensor in state.items():
        head, dot, rest = key.partition(".")
        (inner.setdefault(head, {}) if dot else own)[rest or head] = tensor
    modules = {}
    for head, part in inner.items():
        says = {"conv_clamp": clamp} if head in ("conv0", "conv1", "torgb") else {}
        says |= {"architecture": "skip"} if head[0] == "b" and head[1:].isdigit() else {}
        says |= {"activation": "lrelu"} if head in ("conv0", "conv1") or head.startswith("fc") else {}
        says |= {"bias_gain": 0.01} if head.startswith("fc") else {}
        modules[head] = persistent(part, CLASSES.get(head, "SynthesisBlock"), clamp, **says)
    buffers = {key: own.pop(key) for key in list(own) if key in BUFFERS}
    parameters = {key: nn.Parameter(tensor) for key, tensor in own.items()}
    return Persistent(name, parameters, buffers, modules, **attributes)


def dump(value, path, protocol=4):
    """Writes a pickle as NVIDIA's training does; returns the path."""
    with stand_ins():
        path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def dump_nvidia(state, path, clamp=None, **others):
    """A snapshot with the generator's moving average of the weights, and what stands beside it."""
    snapshot = {"training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="/data")}
    return dump(snapshot | others | {"G_ema": persistent(state, clamp=clamp)}, path)


def dump_torch(value, path, legacy=False):
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def legacy_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()
