"""Pickles from strangers: read without running anything in them, and without reading it all at once."""

import collections
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from t4g_tracker.datasets.pickles import StoredArray, StoredBytes, open_pickle
from t4g_tracker.errors import DatasetError

ARRAYS = {
    "bytes": np.random.default_rng(0).integers(0, 255, (5, 40, 50, 3), dtype=np.uint8),
    "floats": np.random.default_rng(1).random((3, 5, 2)).astype(np.float32),
    "flags": np.arange(15).reshape(3, 5) % 2 == 0,
    "columns first": np.asfortranarray(np.random.default_rng(2).random((60, 50))),
    "text": np.array(["a", "bcd"]),
    "nothing": np.zeros((0, 3)),
}


def write(path: Path, value, protocol) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_as_they_were_whatever_the_protocol(tmp_path, protocol):
    opened = open_pickle(write(tmp_path / "a.pkl", {"clip": ARRAYS, "number": np.float64(2.5)}, protocol))
    for name, array in ARRAYS.items():
        read = opened["clip"][name].read()
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert np.array_equal(read, array)
    assert opened["number"] == 2.5


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_long_contents_stay_in_the_file_until_they_are_asked_for(tmp_path, protocol):
    images = [bytes([number]) * 9000 for number in range(20)]  # in protocol 4 and 5 these lie in frames
    value = {"video": [*images, b"short"], "array": np.arange(200_000, dtype=np.uint32)}
    opened = open_pickle(write(tmp_path / "a.pkl", value, protocol))
    assert isinstance(opened["array"].content, StoredBytes)
    assert np.array_equal(opened["array"].read(), value["array"])
    *stored, short = opened["video"]
    assert short == b"short"
    assert all(isinstance(image, StoredBytes) for image in stored)
    assert [image.read() for image in stored] == images


def test_a_large_file_takes_little_memory(tmp_path):
    value = [{"video": [os.urandom(20_000) for _ in range(100)]} for _ in range(20)]  # 40 MB
    path = write(tmp_path / "a.pkl", value, 4)
    del value
    tracemalloc.start()
    opened = open_pickle(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(opened) == 20
    assert peak < 4e6


def test_objects_in_an_array_are_kept_as_they_are(tmp_path):
    images = np.empty(2, dtype=object)
    images[:] = [b"one", b"two"]
    opened = open_pickle(write(tmp_path / "a.pkl", images, 4))
    assert isinstance(opened, StoredArray)
    assert list(opened.read()) == [b"one", b"two"]


class Attack:
    """Runs a command when it is unpickled in the usual way."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_by_name_and_not_run(tmp_path, protocol):
    mark = tmp_path / "was-run"
    path = write(
        tmp_path / "evil.pkl", {"clip": {"video": ARRAYS["bytes"], "points": Attack(mark)}}, protocol
    )
    with pytest.raises(DatasetError, match=rf"{path}: names \w+\.system, which a data set"):
        open_pickle(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # so it would have been run


@pytest.mark.parametrize(
    "value",
    [eval, Path("x"), collections.Counter("a"), np.random.default_rng, slice(1), type],
    ids=["function", "path", "counter", "compiled", "slice", "class"],
)
def test_anything_but_arrays_and_plain_containers_is_refused(tmp_path, value):
    with pytest.raises(DatasetError, match="nothing was run"):
        open_pickle(write(tmp_path / "a.pkl", [value], 4))


def test_a_way_around_by_an_attribute_of_something_allowed_is_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.")
    with pytest.raises(DatasetError, match=r"numpy\.ndarray\.tofile"):
        open_pickle(path)


def test_memory_is_not_taken_on_a_files_word(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.")  # bytearray(2**31 - 1)
    with pytest.raises(DatasetError, match="bytes are made from a int"):
        open_pickle(path)


NUMPY = "numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray"


def reduced(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


DTYPE = name("numpy", "dtype") + b"X\x02\x00\x00\x00O8\x89\x88\x87R"  # dtype("O8", False, True)
# its state, without the flag that says that it holds objects
LYING = b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
EIGHT = b"C\x08\x41\x41\x41\x41\x41\x41\x41\x41"  # an address of the attacker's choice


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (reduced(name(NUMPY, "scalar"), DTYPE, LYING, b"b", EIGHT, b"\x86R"), "does not fit its type"),
        (reduced(name("_codecs", "encode"), b"}b"), "a file may not set the state"),
        (
            reduced(
                name(NUMPY, "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R",
                b"(K\x01K\x05\x85" + DTYPE + b"\x89" + EIGHT + b"tb",
            ),
            "does not fit",
        ),
        (reduced(name("numpy", "ndarray"), b"K\x05\x85\x85R"), "is not callable"),
        (reduced(name("numpy", "dtype"), b"X\x02\x00\x00\x00V9\x85R"), "arrays of V9 are not expected"),
    ],
    ids=["a lying type", "changed helpers", "objects from bytes", "an array called", "structures"],
)
def test_a_pickle_cannot_make_numpy_read_what_is_not_there(tmp_path, content, said):
    """In a process of its own: numpy's own unpickling crashes on the first and third."""
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    program = (
        "import sys; from pathlib import Path; from t4g_tracker.datasets.pickles import open_pickle; "
        "open_pickle(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "DatasetError" in done.stderr
    assert said in done.stderr


def test_an_array_as_long_as_its_shape_says_is_the_only_one_taken(tmp_path):
    array = pickle.dumps(np.zeros((3, 5), np.uint8), 2)
    path = tmp_path / "a.pkl"
    path.write_bytes(array.replace(b"K\x03K\x05\x86", b"K\x03K\x09\x86"))
    with pytest.raises(DatasetError, match=r"shape \(3, 9\) has 15 bytes"):
        open_pickle(path)


@pytest.mark.parametrize("left", [0, 1, 40, 30_500])
def test_a_file_cut_short_is_refused_by_name(tmp_path, left):
    path = write(tmp_path / "a.pkl", ARRAYS, 4)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DatasetError, match=rf"{path}: is not a whole pickle"):
        open_pickle(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.pkl: cannot be read"):
        open_pickle(tmp_path / "none.pkl")
