"""A checkpoint that wants to do something, or lies about itself, is refused, and nothing happens.

All hostile files are read in one process of its own, whose every event that Python audits
(imports, files, processes, sockets, code) is watched and whose memory is limited.
"""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from workers.checkpoint import read

CANARY = "canary-of-a-checkpoint"
SHELL = f"touch {CANARY}"
CODE = f"open({CANARY!r}, 'w')"


# --- pickles by hand: protocol 2, as torch writes it ---


def text(value):
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def whole(number):
    return b"\x8a" + bytes([9]) + number.to_bytes(9, "little", signed=True)


def name(full, module=None):
    module, short = (module, full) if module else full.rsplit(".", 1)
    return f"c{module}\n{short}\n".encode()


def named_on_stack(module, short):
    return text(module) + text(short) + b"\x93"


def many(*items):
    return b"(" + b"".join(items) + b"t"


def call(function, *arguments):
    return function + many(*arguments) + b"R"


def mapping(**items):
    return b"}(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def made(kind="gone.Module", **state):
    return name(kind) + b")\x81" + mapping(**state) + b"b"


def stored(kind="FloatStorage", key="0", count=6):
    return many(text("storage"), name(f"torch.{kind}"), text(key), text("cpu"), whole(count)) + b"Q"


def tensor(offset=0, shape=(2, 3), strides=(3, 1), storage=None, function="_rebuild_tensor_v2"):
    return call(
        name(f"torch._utils.{function}"),
        storage or stored(),
        whole(offset),
        many(*map(whole, shape)),
        many(*map(whole, strides)),
        b"\x89",
        call(name("collections.OrderedDict")),
    )


def program(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def state(each, **more):
    return program(mapping(weight=each, **more))


def archived(pickled, *, folder="archive", storage=bytes(24), **more):
    """A checkpoint's archive around a pickle; `more` are other entries by their names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", pickled)
        archive.writestr(f"{folder}/data/0", storage)
        for short, content in more.items():
            archive.writestr(f"{folder}/{short}", content)
    return out.getvalue()


GOOD = state(tensor())


def test_the_pickles_by_hand_are_what_torch_reads(tmp_path):
    """But for what is hostile in them, nothing is wrong with the files of these tests."""
    numbers = np.arange(6, dtype=np.float32)
    path = tmp_path / "good.pt"
    path.write_bytes(archived(GOOD, storage=numbers.tobytes(), version=b"3\n"))
    expected = torch.load(path, weights_only=True)["weight"].numpy()
    np.testing.assert_array_equal(expected, numbers.reshape(2, 3))
    np.testing.assert_array_equal(read(path)["weight"], expected)


# --- what wants to run ---


class Payload:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def dumped(*reduced, protocol=2):
    return pickle.dumps({"weight": Payload(*reduced)}, protocol=protocol)


RUNS = {
    "os.system by REDUCE": (dumped(os.system, (SHELL,)), "asks for posix.system"),
    "os.system by its public name": (
        state(call(name("os.system"), text(SHELL))),
        "asks for os.system",
    ),
    "os.system by a newer protocol": (dumped(os.system, (SHELL,), protocol=5), "posix.system"),
    "subprocess.Popen by STACK_GLOBAL": (
        state(call(named_on_stack("subprocess", "Popen"), text(SHELL), b"K\x00", b"NNNNN\x88\x88")),
        "asks for subprocess.Popen",
    ),
    "subprocess under its name of Python 2": (
        state(call(name("commands.getoutput"), text(SHELL))),
        "asks for subprocess.getoutput",
    ),
    "eval": (dumped(eval, (CODE,)), "asks for builtins.eval"),
    "exec": (dumped(exec, (CODE,)), "asks for builtins.exec"),
    "exec beside good tensors": (
        state(tensor(), more=call(name("builtins.exec"), text(CODE))),
        "asks for builtins.exec",
    ),
    "exec after which all is good": (
        program(call(name("builtins.exec"), text(CODE)), b"0", mapping(weight=tensor())),
        "asks for builtins.exec",
    ),
    "a class of the standard library by NEWOBJ": (
        state(name("subprocess.Popen") + many(text(SHELL)) + b"\x81"),
        "asks for subprocess.Popen",
    ),
    "a class by NEWOBJ_EX": (
        b"\x80\x04"
        + name("subprocess.Popen")
        + many(text(SHELL))
        + mapping(shell=b"\x88")
        + b"\x92.",
        "asks for subprocess.Popen",
    ),
    "INST": (b"(S'" + SHELL.encode() + b"'\nios\nsystem\n.", "instruction STRING"),
    "INST alone": (b"(" + text(SHELL) + b"ios\nsystem\n.", "instruction INST"),
    "OBJ": (b"(" + name("os.system") + text(SHELL) + b"o.", "asks for os.system"),
    "OBJ of a class that is gone": (b"(" + name("gone.C") + text(SHELL) + b"o.", "instruction OBJ"),
    "EXT1": (program(b"\x82\x01", many(text(SHELL)), b"R"), "instruction EXT1"),
    "EXT2": (program(b"\x83\x01\x01", many(text(SHELL)), b"R"), "instruction EXT2"),
    "EXT4": (program(b"\x84\x01\x01\x01\x01", many(text(SHELL)), b"R"), "instruction EXT4"),
    "getattr": (
        state(call(call(name("builtins.getattr"), name("torch.os"), text("system")), text(SHELL))),
        "asks for builtins.getattr",
    ),
    "a chain of attributes": (
        state(call(named_on_stack("torch", "os.system"), text(SHELL))),
        "asks to call torch.os.system",
    ),
    "attributes behind a class that is gone": (
        state(call(named_on_stack("torch.nn", "Module.__init__.__globals__"), text(SHELL))),
        "asks to call torch.nn.Module.__init__.__globals__",
    ),
    "operator.attrgetter": (
        state(call(call(name("operator.attrgetter"), text("system")), name("torch.os"))),
        "asks for operator.attrgetter",
    ),
    "functools.partial of os.system": (
        state(call(call(name("functools.partial"), name("os.system"), text(SHELL)))),
        "asks for os.system",
    ),
    "functools.partial, called": (
        state(call(call(name("functools.partial"), name("torch.hub.load"), text(SHELL)))),
        "asks to call something that is no function",
    ),
    "torch.load of what lies inside": (
        state(call(name("torch.load"), text(CANARY))),
        "asks to call torch.load",
    ),
    "a pickle in the pickle": (
        state(
            call(
                name("_pickle.loads"),
                call(name("_codecs.encode"), text("cos\nsystem\n."), text("latin1")),
            )
        ),
        "asks for _pickle.loads",
    ),
    "numpy's way to run text": (
        state(call(name("numpy.testing._private.utils.runstring"), text(CODE), b"}")),
        "asks to call numpy.testing._private.utils.runstring",
    ),
    "numpy's pickles": (
        state(call(name("numpy.load"), text(CANARY), b"N\x88")),
        "asks to call numpy.load",
    ),
    "a rebuilder that calls": (
        state(
            call(
                name("torch._tensor._rebuild_from_type_v2"),
                name("torch.hub.load"),
                name("torch.Tensor"),
                many(text(SHELL)),
                b"}",
            )
        ),
        "a tensor of a kind",
    ),
    "a tensor of a class that computes": (
        state(
            call(
                name("torch._tensor._rebuild_from_type_v2"),
                name("torch._utils._rebuild_tensor_v2"),
                name("gone.Tensor"),
                many(stored(), whole(0), many(whole(6)), many(whole(1)), b"\x89", b"N"),
                b"}",
            )
        ),
        "a tensor of a kind",
    ),
    "a codec by name": (
        state(call(name("_codecs.encode"), text(SHELL), text("rot13"))),
        "encodes text",
    ),
    "__setstate__ as an attribute": (
        program(made(__setstate__=name("torch.hub.load")), b"}b"),
        "no named tensors",
    ),
    "another class as an attribute": (
        program(made(), many(b"N", mapping(__class__=name("torch.hub.load"))), b"b"),
        "no named tensors",
    ),
    "attributes of a class": (
        program(name("torch.nn.Module"), mapping(__setstate__=name("torch.hub.load")), b"b"),
        "gives attributes to something that has none",
    ),
    "items of a class": (
        program(name("torch.nn.Module"), text("a"), b"Ns"),
        "sets items of something that has none",
    ),
    "an object of what is no class": (program(text("os"), b")\x81"), "something that is no class"),
    "a call of text": (program(text("os.system"), many(text(SHELL)), b"R"), "is no function"),
    "a call without a tuple": (
        program(name("collections.OrderedDict"), b"]R"),
        "is no function",
    ),
    "a name that is not one": (program(b"cos;import\nsystem()\n"), "what is no name"),
    "a class with a line of its own": (
        program(named_on_stack("gone\nOK: all is well", "C")),
        "what is no name",
    ),
    "a name made of numbers": (program(b"K\x01K\x02\x93"), "what is no text"),
    "a persistent id in text": (b"Pos.system\n.", "instruction PERSID"),
    "a persistent id that is a path": (
        state(tensor(storage=stored(key="../../../../etc/passwd"))),
        "etc/passwd' is missing from it",
    ),
    "a persistent id of another kind": (
        program(many(text("module"), text("a"), text(CODE)), b"Q"),
        "outside the pickle",
    ),
    "a storage of no type of torch's": (
        program(many(text("storage"), name("gone.S"), text("0"), text("cpu"), whole(6)), b"Q"),
        r"keeps its numbers in a gone\.S",
    ),
    "an archive instead of a pickle": (archived(dumped(os.system, (SHELL,))), "instruction PERSID"),
}


# --- what lies about its numbers ---

LIES = {
    "a negative offset": (state(tensor(offset=-1)), "negative or absurd"),
    "a negative size": (state(tensor(shape=(-2, -3))), "negative or absurd"),
    "a negative stride": (state(tensor(offset=5, shape=(6,), strides=(-1,))), "negative or absurd"),
    "an offset beyond the end": (state(tensor(offset=1)), "does not fit into its 6 numbers"),
    "an offset beyond the end of nothing": (
        state(tensor(offset=7, shape=(0,), strides=(1,))),
        "does not fit",
    ),
    "a stride beyond the end": (state(tensor(strides=(4, 1))), "does not fit"),
    "more numbers than there are": (
        state(tensor(shape=(1 << 20, 1 << 20), strides=(0, 0))),
        "does not fit",
    ),
    "more sizes than strides": (state(tensor(shape=(2, 3, 1))), "3 dimensions and 2 strides"),
    "too many dimensions": (state(tensor(shape=(1,) * 65, strides=(1,) * 65)), "65 dimensions"),
    "a size that overflows": (state(tensor(shape=(1 << 63, 3))), "negative or absurd"),
    "a size that is a fraction": (
        state(
            call(
                name("torch._utils._rebuild_tensor_v2"),
                *(stored(), whole(0), many(b"G" + struct.pack(">d", 2.5)), many(whole(1)), b"NN"),
            )
        ),
        "no whole number",
    ),
    "a huge storage": (state(tensor(storage=stored(count=1 << 60))), "24 bytes where it says"),
    "a storage a number too short": (state(tensor(storage=stored(count=7))), "where it says 28"),
    "a storage of negative size": (state(tensor(storage=stored(count=-6))), "no storage"),
    "a storage of two kinds": (
        state(tensor(), b=tensor(storage=stored("IntStorage"))),
        "storage '0' in two ways",
    ),
    "quantised numbers": (
        state(tensor(storage=stored("QInt8Storage"))),
        r"keeps its numbers in a torch\.QInt8Storage",
    ),
    "numbers of eight bits": (
        state(
            call(
                name("torch._utils._rebuild_tensor_v3"),
                stored("UntypedStorage", count=24),
                *(whole(0), many(whole(24)), many(whole(1)), b"\x89", b"N"),
                name("torch.float8_e4m3fn"),
            )
        ),
        "'float8_e4m3fn', which this reader does not know",
    ),
    "a conjugate view": (
        state(
            call(
                name("torch._utils._rebuild_tensor_v2"),
                *(stored(), whole(0), many(whole(6)), many(whole(1)), b"\x89", b"N"),
                mapping(conj=b"\x88"),
            )
        ),
        "conjugate or negative view",
    ),
    "a sparse tensor": (
        state(call(name("torch._utils._rebuild_sparse_tensor"), b"N")),
        "asks to call torch._utils._rebuild_sparse_tensor",
    ),
    "a parameter of text": (
        state(call(name("torch._utils._rebuild_parameter"), text("a"), b"\x88", b"N")),
        "a parameter of something",
    ),
    "a tensor of text": (
        state(call(name("torch._utils._rebuild_tensor_v2"), text("a"))),
        "in a way that torch does not",
    ),
    "a name twice": (
        state(tensor(), weight_=tensor()).replace(text("weight_"), text("weight")),
        "the name 'weight' twice",
    ),
    "a name by two ways": (
        program(
            made(
                _parameters=mapping(**{"a.b": tensor()}),
                _modules=mapping(a=made(_parameters=mapping(b=tensor()))),
            )
        ),
        r"two of its tensors are called 'a\.b'",
    ),
    "a name with a line of its own": (
        program(mapping(**{"weight\nOK: all is well": tensor()})),
        r"is called 'weight\\nOK: all is well', which is no name",
    ),
    "a name without an end": (program(mapping(**{"a" * 100_000: tensor()})), "which is no name"),
    "a wrapper's name a million times": (
        program(mapping(**{"module." * 1_000_000: tensor()})),
        "which is no name",
    ),
    "a name that is no text": (program(mapping(**{"\udc80": tensor()})), "which is no name"),
    "numbers as names": (program(b"}K\x01" + tensor() + b"s"), "no named tensors"),
    "nothing": (program(b"N"), "no named tensors"),
    "no tensors": (program(mapping(epoch=b"K\x07", best=b"N")), "only 'epoch', 'best'"),
    "a module without any": (program(made(_modules=mapping(a=made()))), "a module without any"),
}


# --- what would take for ever ---


def laughing_modules(levels=40):
    """Each holds the one below twice: 2 ** 40 tensors of six numbers, in a few bytes."""
    yield made(_parameters=mapping(w=tensor())) + b"q\x00"
    for level in range(levels):
        below = b"h" + bytes([level])
        yield b"0" + made(_modules=mapping(a=below, b=below)) + b"q" + bytes([level + 1])


def laughing_lists(levels=200):
    yield b"]q\x00"
    for level in range(levels):
        yield b"0](" + (b"h" + bytes([level])) * 10 + b"e" + b"q" + bytes([level + 1])


def nested_modules(levels):
    inner = made(_parameters=mapping(w=tensor()))
    start, end = name("gone.Module") + b")\x81}" + text("_modules") + b"}" + text("a"), b"ssb"
    return start * levels + inner + end * levels


CYCLE = program(
    name("gone.Module") + b")\x81q\x00" + mapping(_modules=mapping(a=b"h\x00", b=b"h\x00")) + b"b"
)
WRAPPED_IN_ITSELF = program(
    name("gone.Module") + b")\x81q\x00" + mapping(_modules=mapping(module=b"h\x00")) + b"b"
)
STATE_OF_ITSELF = program(b"}q\x00" + text("model") + b"h\x00s")
MANY = 2_000_001

ENDLESS = {
    "modules that double forty times": (program(*laughing_modules()), "more, than any model's"),
    "lists that grow tenfold 200 times": (program(*laughing_lists()), "no named tensors"),
    "tuples in tuples": (program(b")", b"\x85" * 500_000), "no named tensors"),
    "tuples in tuples as a name": (program(b"})", b"\x85" * 500_000, b"Ns"), "no named tensors"),
    "lists in lists": (program(b"]" * 300_000, b"a" * 299_999), "no named tensors"),
    "modules in modules": (program(nested_modules(20_000)), "nested deeper"),
    "modules that share many entries": (
        program(
            b"}q\x00(" + b"".join(text(str(i)) + b"N" for i in range(100_000)) + b"u0",
            made(
                _modules=b"}("
                + b"".join(text(str(i)) + made(_parameters=b"h\x00") for i in range(10_000))
                + b"u"
            ),
        ),
        "more, than any model's",
    ),
    "a module in itself": (CYCLE, "nested deeper, or are more"),
    "a wrapper of itself": (WRAPPED_IN_ITSELF, r"module\.module\.modu', which is no name"),
    "a state of itself": (STATE_OF_ITSELF, "no named tensors"),
    "a list in itself": (program(b"]q\x00h\x00a"), "no named tensors"),
    "instructions without an end": (program(b"N0" * (MANY // 2 + 1)), "more than 2000000"),
    "marks": (program(b"(" * 1_000_000), "more than one thing"),
    "a memory in no order": (program(b"Nr\xff\xff\xff\xff"), "in no order"),
    "a memory that is not there": (program(b"h\x07"), "pickle is damaged"),
    "a number of a million digits": (
        program(b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000),
        "instruction LONG4",
    ),
    "a number in a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "instruction INT,"),
    "a text longer than the file": (program(b"X\xff\xff\xff\x7f"), "pickle is damaged"),
    "bytes longer than the file": (program(b"B\xff\xff\xff\x7f"), "pickle is damaged"),
    "one storage turned two hundred times": (
        program(
            b"}(",
            *(
                text(f"a{i}")
                + tensor(
                    shape=(1 << 11, 1 << 12), strides=(1, 1 << 11), storage=stored(count=1 << 23)
                )
                for i in range(200)
            ),
            b"u",
        ),
        "more numbers than it has",
    ),
    "nothing at all": (b"", "pickle is damaged"),
    "no end": (program(b"N")[:-1], "pickle is damaged"),
    "two things": (program(b"NN"), "more than one thing"),
    "something behind its end": (GOOD + b"N.", "more than one thing"),
    "too little on the stack": (program(b"R"), "pickle is damaged"),
    "text that is not Unicode": (program(b"X\x02\x00\x00\x00\xff\xfe"), "pickle is damaged"),
}


# --- archives that are none ---


def rewritten(**how):
    """The good checkpoint, with zipfile's arguments for its pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", GOOD, **how)
        archive.writestr("archive/data/0", bytes(24))
    return out.getvalue()


def compressed_bomb():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", state(tensor(storage=stored(count=1 << 26))))
        with archive.open(zipfile.ZipInfo("archive/data/0"), "w"):
            pass
        info = zipfile.ZipInfo("archive/data/1")
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w") as entry:
            for _ in range(256):
                entry.write(bytes(1 << 20))
    return out.getvalue()


def entries(*names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for each in names:
            archive.writestr(each, GOOD)
    return out.getvalue()


def patched(content, old, new, where=-1):
    """Replaces the last (or first) occurrence; both have one length."""
    assert len(old) == len(new) and old in content
    at = content.rfind(old) if where < 0 else content.find(old)
    return content[:at] + new + content[at + len(old) :]


def twice():
    content = entries("archive/data.pkl", "archive/data/0", "archive/data/1")
    return content.replace(b"archive/data/1", b"archive/data/0")


def one_over_the_other():
    """A thousand entries in the directory that are one in the file."""
    content = archived(state(tensor(storage=stored(count=1 << 18))), storage=bytes(1 << 20))
    end = content.rfind(b"PK\x05\x06")
    (directory,) = struct.unpack_from("<I", content, end + 16)
    first = content.find(b"PK\x01\x02", directory + 4)
    record = content[first:end]
    records = b"".join(
        record.replace(b"archive/data/0", f"archive/{i:06d}".encode()) for i in range(1000)
    )
    count, size = 1001, first - directory + len(records)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, directory, 0)
    return content[:first] + records + tail


def absurd_directory():
    """A table of contents of five megabytes, for entries that are not there."""
    record = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 60_000) + bytes(16)
    content = b"PK\x03\x04" + bytes(30) + (record + b"a" * 60_000) * 90
    size = len(content) - 34
    return content + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 90, 90, size, 34, 0)


def claims_to_be_large():
    """The directory says that a storage has 3 GB."""
    content = archived(state(tensor(storage=stored(count=3 << 28))))
    sizes = struct.pack("<II", 24, 24)
    return patched(content, sizes, struct.pack("<II", 3 << 30, 3 << 30))


def encrypted():
    content = archived(GOOD)
    at = content.find(b"PK\x01\x02") + 8
    return content[:at] + b"\x01\x00" + content[at + 2 :]


def legacy():
    out = io.BytesIO()
    torch.save(nn.Linear(2, 2), out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def legacy_tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return out.getvalue()


def scripted():
    return archived(GOOD, **{"constants.pkl": b"\x80\x02).", "code/__torch__.py": CODE.encode()})


def safetensors_header(header, numbers=bytes(24)):
    said = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(said)) + said + numbers


def safe(kind="F32", shape=(2, 3), offsets=(0, 24), name="weight"):
    return safetensors_header({name: {"dtype": kind, "shape": shape, "data_offsets": offsets}})


FILES = {
    "compressed": (
        lambda: rewritten(compress_type=zipfile.ZIP_DEFLATED),
        "'data.pkl' is compressed",
    ),
    "a compressed bomb": (compressed_bomb, "'data/1' is compressed"),
    "cut in the middle": (lambda: archived(GOOD)[:200], "damaged or not wholly there"),
    "cut at its end": (lambda: archived(GOOD)[:-1], "damaged or not wholly there"),
    "only a beginning": (lambda: b"PK\x03\x04", "damaged or not wholly there"),
    "an entry twice": (twice, "the entry 'data/0' twice"),
    "a thousand entries in one place": (one_over_the_other, "hold more than the whole file"),
    "a table of contents without an end": (absurd_directory, "table of contents is larger"),
    "an entry that claims to be large": (claims_to_be_large, "hold more than the whole file"),
    "a pickle that is too large": (
        lambda: archived(bytes((64 << 20) + 1)),
        "'data.pkl' has 67108865 bytes, more than",
    ),
    "encrypted": (encrypted, "damaged or not wholly there"),
    "numbers changed": (
        lambda: patched(archived(GOOD), bytes(24), b"\x01" + bytes(23), where=0),
        "damaged or not wholly there",
    ),
    "an entry above its folder": (
        lambda: entries("archive/data.pkl", "archive/../data/0"),
        "no name of torch's",
    ),
    "an entry from the root": (lambda: entries("/data.pkl", "/data/0"), "no name of torch's"),
    "an entry in Windows' way": (
        lambda: entries("archive/data.pkl", "archive/..\\data"),
        "no name of torch's",
    ),
    "two folders": (lambda: entries("archive/data.pkl", "b/data/0"), "not in one folder"),
    "no folder": (lambda: entries("data.pkl", "data/0"), "not in one folder"),
    "no entries": (entries, "neither a checkpoint"),
    "no pickle": (lambda: entries("archive/data/0"), "'data.pkl' is missing"),
    "no numbers": (lambda: entries("archive/data.pkl"), "'data/0' is missing"),
    "an order of bytes of its own": (
        lambda: archived(GOOD, byteorder=b"middle"),
        "neither little nor big",
    ),
    "a program of TorchScript": (scripted, "TorchScript"),
    "torch's old format": (legacy, "a torch before 1.6"),
    "torch's oldest format": (legacy_tar, "neither a checkpoint"),
    "a plain pickle": (lambda: dumped(os.system, (SHELL,)), "plain pickle, a program"),
    "a plain pickle of protocol 0": (
        lambda: dumped(os.system, (SHELL,), protocol=0),
        "neither a checkpoint",
    ),
    "empty": (bytes, "neither a checkpoint"),
    "text": (lambda: b"Not found\n" * 10, "neither a checkpoint"),
    "something before the archive": (
        lambda: b"#!/bin/sh\n" + archived(GOOD),
        "neither a checkpoint",
    ),
    "safetensors, cut": (lambda: safe()[:-1], "damaged safetensors file"),
    "safetensors with a header without an end": (
        lambda: struct.pack("<Q", 1 << 60) + b"{" * 100,
        "damaged safetensors file",
    ),
    "safetensors nested deep": (
        lambda: safetensors_header(b'{"a":' * 100_000),
        "damaged safetensors file",
    ),
    "safetensors that lie outside": (lambda: safe(offsets=(0, 1 << 40)), "damaged safetensors"),
    "safetensors of a shape of its own": (lambda: safe(shape=(2, 4)), "damaged safetensors file"),
    "safetensors of eight bits": (lambda: safe("F8_E4M3", (24,)), "'F8_E4M3', which this reader"),
    "safetensors with a name of two lines": (lambda: safe(name="a\nb"), "which is no name"),
    "safetensors of nothing": (lambda: safetensors_header({}, b""), "no named tensors"),
}

LARGE = {"one storage turned two hundred times": bytes(1 << 25)}
PICKLES = {**RUNS, **LIES, **ENDLESS}
assert len(PICKLES) == len(RUNS) + len(LIES) + len(ENDLESS) and not PICKLES.keys() & FILES.keys()
EXPECTED = {title: expected for title, (_, expected) in {**PICKLES, **FILES}.items()}


def hostile_files():
    for title, (pickled, _) in PICKLES.items():
        yield title, archived(pickled, storage=LARGE.get(title, bytes(24)))
    for title, (make, _) in FILES.items():
        yield title, make()


# Reads each file of a folder and says what came of it, and what Python did meanwhile.
WATCHED = """
import json, os, resource, sys, time
sys.modules["torch"] = None
from pathlib import Path
from workers.checkpoint import read

good, good_safe, folder = map(Path, sys.argv[1:])
for each in (good, good_safe):
    read(each)  # what the reader itself imports is there now
try:
    read(folder)
except Exception:
    pass
limit = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
events, watching, said = [], False, {}

def watch(event, given):
    # A file is opened to be read, and nothing else is done.
    harmless = event == "open" and str(given[0]) == str(path) and not given[2] & WRITES
    if watching and not harmless:
        events.append([str(path), event, repr(given)[:200]])

path = None
sys.addaudithook(watch)
for path in sorted(folder.iterdir()):
    start, watching = time.monotonic(), True
    try:
        outcome = ["read", sorted(read(path))]
    except BaseException as error:
        outcome = [type(error).__name__, str(error)]
    watching = False
    said[path.name] = [*outcome, time.monotonic() - start]
print(json.dumps([said, events]))
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What the watched process says of every hostile file: by title; and its events."""
    folder, beside = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("beside")
    titles = {}
    for number, (title, content) in enumerate(hostile_files()):
        titles[f"{number:03d}.pt"] = title
        (folder / f"{number:03d}.pt").write_bytes(content)
    (beside / "good.pt").write_bytes(archived(GOOD))
    (beside / "good.safetensors").write_bytes(safe())
    asked = [sys.executable, "-c", WATCHED, beside / "good.pt", beside / "good.safetensors", folder]
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads take addresses
    run = subprocess.run(
        asked, env=alone, cwd=beside, check=True, capture_output=True, text=True, timeout=170
    )
    said, events = json.loads(run.stdout)
    assert not run.stderr
    assert sorted(each.name for each in beside.iterdir()) == ["good.pt", "good.safetensors"]
    return {titles[each]: found for each, found in said.items()}, events


@pytest.mark.parametrize("title", EXPECTED)
def test_it_is_refused_in_one_line(outcome, title):
    kind, message, seconds = outcome[0][title]
    assert kind == "WeightsError", message
    assert re.search(EXPECTED[title], message), message
    assert "torch.save(model.state_dict()" in message
    assert "\n" not in message and message.isprintable() and len(message) < 700
    assert seconds < 30


def test_nothing_happened_meanwhile(outcome):
    assert outcome[1] == []


@pytest.mark.parametrize("title", ["os.system by REDUCE", "eval", "exec after which all is good"])
def test_the_payloads_do_run_where_a_pickle_is_loaded(tmp_path, title):
    """Without this, the tests above would prove nothing."""
    (tmp_path / "payload").write_bytes(PICKLES[title][0])
    loads = (
        "import pickle; u = pickle.Unpickler(open('payload', 'rb'));\n"
        "try: u.load()\nexcept Exception: pass"
    )
    subprocess.run([sys.executable, "-c", loads], cwd=tmp_path, check=True)
    assert (tmp_path / CANARY).exists()
