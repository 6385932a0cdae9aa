"""Pickles from strangers: read without running anything in them, and without reading it all at once."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from t4g_tracker.datasets.pickles import SMALL_BYTES, StoredArray, StoredBytes, open_pickle
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
    image, long = os.urandom(9000), np.zeros(200_000, np.uint8)
    opened = open_pickle(write(tmp_path / "a.pkl", {"video": [image, b"short"], "array": long}, protocol))
    assert isinstance(opened["array"].content, StoredBytes)
    assert opened["array"].content.length == 200_000 > SMALL_BYTES
    stored, short = opened["video"]
    assert short == b"short"
    assert (stored.read() if isinstance(stored, StoredBytes) else stored) == image


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
    "value", [eval, Path("x"), collections.Counter("a"), np.random.default_rng, slice(1), type], ids=str
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


@pytest.mark.parametrize("left", [0, 1, 40, 30_500])
def test_a_file_cut_short_is_refused_by_name(tmp_path, left):
    path = write(tmp_path / "a.pkl", ARRAYS, 4)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DatasetError, match=rf"{path}: is not a whole pickle"):
        open_pickle(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.pkl: cannot be read"):
        open_pickle(tmp_path / "none.pkl")
