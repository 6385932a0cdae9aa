"""The kinds of files that a user gives: valid ones, how they are damaged, and the command that reads them."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import yaml
from fuzz_arrays import npy, npys, npz, npzs
from fuzz_bytes import damaged, images
from fuzz_texts import tables, texts
from hypothesis import strategies as st
from PIL import Image

SIZE = (48, 64)
FRAMES = 6


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    valid: bytes  # has to be accepted
    damage: st.SearchStrategy[bytes]
    path: str  # where it lies in its folder
    arguments: tuple[str, ...]  # "@" stands for the folder
    beside: tuple[tuple[str, bytes], ...] = ()  # other files of the folder
    settings: tuple[str, ...] = ("features.extractor=patch",)

    def write(self, folder: Path, data: bytes) -> list[str]:
        """Write the files of one case, and return the arguments of the command."""
        for name, content in (*self.beside, (self.path, data)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        places = ["--out", f"{folder}/out", "--cache", f"{folder}/cache", "--device", "cpu", "--quiet"]
        given = [*self.arguments, *places, "--set", *self.settings]
        return [argument.replace("@", str(folder)) for argument in given]


NAMES = (
    *("mp4", "mkv", "webm", "avi", "gif", "ts"),
    *(f"folder of {form}" for form in ("png", "jpeg", "tiff", "webp", "bmp", "dpx", "exr")),
    *("pages of tiff", "pages of webp", "json", "csv", "npy", "npz", "gt npz"),
    *("mask png", "mask jpeg", "mask webp", "mask npy", "folder of masks"),
    *("yaml", "tracks npz", "pickle", "badja json"),
)
MODEL_NAMES = ("pth", "safetensors", "model config")


def kind_of(name: str) -> Kind:
    """Make a kind of file, by its name in one of these lists."""
    made = _model_kinds() if name in MODEL_NAMES else _kinds()
    return next(kind for kind in made if kind.name == name)


@cache
def _kinds() -> list[Kind]:
    return [*_videos(), *_pictures(), *_points(), *_masks(), *_settings(), *_data_sets()]


def pictures(count: int = FRAMES) -> np.ndarray:
    """(T, H, W, 3) uint8: a texture that slides, so that every frame is another."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    frames = []
    for t in range(count):
        waves = [np.sin((x + 2 * t) / 5 + c) + np.cos((y - t) / 4 - c) for c in range(3)]
        frames.append((np.stack(waves, -1) * 50 + 128).astype(np.uint8))
    return np.stack(frames)


def _videos() -> list[Kind]:
    kinds = []
    for name, codec, pixels in (
        ("mp4", "libx264", "yuv420p"),
        ("mkv", "mpeg4", "yuv420p"),
        ("webm", "libvpx", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("gif", "gif", "rgb8"),
        ("ts", "mpeg2video", "yuv420p"),
    ):
        valid = _encoded(name, codec, pixels)
        kinds.append(
            Kind(name, valid, damaged((valid,)), f"x.{name}", ("--video", f"@/x.{name}", "--grid", "3"))
        )
    return kinds


def _encoded(container: str, codec: str, pixels: str) -> bytes:
    file = io.BytesIO()
    form = {"mkv": "matroska", "ts": "mpegts"}.get(container, container)
    with av.open(file, "w", format=form) as opened:
        stream = opened.add_stream(codec, rate=24)
        stream.height, stream.width = SIZE
        stream.pix_fmt, stream.gop_size, stream.thread_count = pixels, 3, 1
        for picture in pictures():
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        opened.mux(stream.encode())
    return file.getvalue()


def _image(picture: np.ndarray, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, **options)
    return file.getvalue()


def _film_image(picture: np.ndarray, codec: str, pixels: str) -> bytes:
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = SIZE
    encoder.pix_fmt, encoder.time_base = pixels, Fraction(1, 24)
    packets = encoder.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels))
    return bytes((packets or encoder.encode(None))[0])


def _folder(form: str = "PNG", count: int = 3) -> tuple[tuple[str, bytes], ...]:
    """A small video as a folder of frames."""
    return tuple(
        (f"frames/{t}.{form.lower()}", _image(picture, form)) for t, picture in enumerate(pictures(count))
    )


def _pictures() -> list[Kind]:
    kinds = []
    deep = pictures(1)[0, ..., 0].astype(np.uint16) << 4
    for form, others in (
        (
            "PNG",
            [_image(pictures(1)[0, ..., 0], "PNG"), _image(deep, "PNG"), _image(pictures(1)[0, :20], "PNG")],
        ),
        ("JPEG", [_image(pictures(1)[0, ..., 0], "JPEG"), _image(pictures(1)[0], "JPEG", progressive=True)]),
        ("TIFF", [_image(pictures(1)[0], "TIFF", compression="tiff_lzw"), _image(deep, "TIFF")]),
        ("WEBP", [_image(pictures(1)[0], "WEBP", lossless=True)]),
    ):
        beside = _folder(form)
        (path, valid), damage = beside[1], images((beside[1][1], *others))
        name = f"folder of {form.lower()}"
        kinds.append(Kind(name, valid, damage, path, ("--video", "@/frames", "--grid", "3"), beside))
    for form, codec, pixels in (
        ("BMP", "bmp", "bgr24"),
        ("DPX", "dpx", "gbrp10le"),
        ("EXR", "exr", "gbrpf32le"),
    ):
        beside = tuple(
            (f"frames/{t}.{form.lower()}", _film_image(picture, codec, pixels))
            for t, picture in enumerate(pictures(3))
        )
        (path, valid), arguments = beside[1], ("--video", "@/frames", "--grid", "3")
        kinds.append(Kind(f"folder of {form.lower()}", valid, damaged((valid,)), path, arguments, beside))
    pages = [Image.fromarray(picture) for picture in pictures(3)]
    for form in ("TIFF", "WEBP"):
        file = io.BytesIO()
        pages[0].save(file, form, save_all=True, append_images=pages[1:])
        valid, path = file.getvalue(), f"x.{form.lower()}"
        arguments = ("--video", f"@/{path}", "--grid", "3")
        kinds.append(Kind(f"pages of {form.lower()}", valid, damaged((valid,)), path, arguments))
    return kinds


POINTS = np.array([[0, 20.5, 10], [2, 40, 30.25], [1, 33, 7]])


def _points() -> list[Kind]:
    named = [{"frame": int(t), "x": x, "y": y, "name": f"p{t:.0f}"} for t, x, y in POINTS]
    as_json = (json.dumps({"queries": named}, indent=1), json.dumps(POINTS.tolist()))
    rows = [f"{t:.0f},{x},{y}" for t, x, y in POINTS]
    as_csv = (
        "\n".join(["frame,x,y,name", *(f"{row},p{n}" for n, row in enumerate(rows)), ""]),
        "\n".join(rows),
    )
    tracks = np.repeat(POINTS[:, None, 1:], 3, axis=1)
    arrays = {
        "tracks": tracks.astype(np.float32),
        "visibility": np.ones(tracks.shape[:2], bool),
        "confidence": np.ones(tracks.shape[:2], np.float32),
        "queries": POINTS.astype(np.float32),
        "names": np.array(["a", "b", "c"]),
        "size": np.array(SIZE),
        "fps": np.array(24.0),
    }
    some = {name: arrays[name] for name in ("queries", "names")}
    given = {
        "json": (as_json[0].encode(), texts(tuple(text.encode() for text in as_json), {"queries": named})),
        "csv": (as_csv[0].encode(), tables(tuple(text.encode() for text in as_csv))),
        "npy": (npy(POINTS), npys(POINTS)),
        "npz": (npz([(f"{name}.npy", npy(array)) for name, array in some.items()]), npzs(some)),
    }
    video = ("--video", "@/frames")
    kinds = [
        Kind(name, valid, damage, f"q.{name}", (*video, "--queries", f"@/q.{name}"), _folder())
        for name, (valid, damage) in given.items()
    ]
    truth = npz([(f"{name}.npy", npy(array)) for name, array in arrays.items()])
    beside = (*_folder(), ("q.npy", npy(POINTS)))
    kinds.append(
        Kind(
            "gt npz",
            truth,
            npzs(arrays),
            "t.npz",
            (*video, "--queries", "@/q.npy", "--gt", "@/t.npz"),
            beside,
        )
    )
    return kinds


def _masks() -> list[Kind]:
    mask = np.zeros(SIZE, np.uint8)
    mask[10:40, 10:50] = 255
    palette = Image.fromarray(mask // 255)
    palette.putpalette([0, 0, 0, 128, 0, 0])
    file = io.BytesIO()
    palette.save(file, "PNG")
    deep = _image(mask.astype(np.uint16) * 257, "PNG")
    kinds = []
    for form, others in (("PNG", [file.getvalue(), deep]), ("JPEG", []), ("WEBP", [])):
        valid, path = _image(mask, form), f"m.{form.lower()}"
        arguments = ("--video", "@/frames", "--grid", "4", "--mask", f"@/{path}")
        kinds.append(
            Kind(f"mask {form.lower()}", valid, images((valid, *others)), path, arguments, _folder())
        )
    arguments = ("--video", "@/frames", "--grid", "4", "--mask", "@/m.npy")
    kinds.append(Kind("mask npy", npy(mask), npys(mask), "m.npy", arguments, _folder()))
    masks = tuple((f"masks/{t}.png", _image(mask, "PNG")) for t in range(3))
    arguments = ("--video", "@/frames", "--grid", "4", "--foreground", "@/masks")
    kinds.append(
        Kind(
            "folder of masks",
            masks[1][1],
            images((masks[1][1],)),
            masks[1][0],
            arguments,
            (*_folder(), *masks),
        )
    )
    return kinds


SETTINGS = """# settings of a run
features:
  extractor: patch
  patch: {channels: 32, stride_px: 8}
flow:
  method: dis
  refine: none
working_size: {pixels: 61440, multiple: 64}
adaptation:
  steps: 300
  learning_rate: 1.0e-3
  snapshots: [10, 100]
  losses: {huber: 0.5}
matching:
  temperature: 0.05
outputs:
  overlay: false
  progress: false
"""


def _settings() -> list[Kind]:
    valid = SETTINGS.encode()
    arguments = ("--video", "@/frames", "--grid", "3", "--config", "@/c.yaml")
    return [Kind("yaml", valid, texts((valid,), yaml.safe_load(valid)), "c.yaml", arguments, _folder())]


def _data_sets() -> list[Kind]:
    points = np.full((2, 3, 2), 0.5, np.float32)
    points[1] = 0.25
    occluded = np.zeros((2, 3), bool)
    occluded[0, 1] = True
    arrays = {"points": points, "occluded": occluded}
    tracks = npz([(f"{name}.npy", npy(array)) for name, array in arrays.items()])
    frames = tuple((f"JPEGImages/480p/a/{t}.png", content) for t, (_, content) in enumerate(_folder()))
    clips = {
        "a": {"video": pictures(3), **arrays},
        "b": {"video": [_image(p, "PNG") for p in pictures(3)], **arrays},
    }
    pickled = tuple(pickle.dumps(clips, protocol) for protocol in (4, 2, 5))
    annotated = [
        {
            "image_path": f"frames/{t}.png",
            "segmentation_path": f"masks/{t}.png",
            "joints": [[10, 20.5], [30, 40]],
            "visibility": [True, t > 0],
        }
        for t in range(3)
    ]
    masks = tuple((f"masks/{t}.png", _image(np.eye(*SIZE, dtype=np.uint8) * 255, "PNG")) for t in range(3))
    badja = json.dumps(annotated).encode()
    published = ("bench", "--dataset", "tapvid-davis", "--path", "@/x.pkl")
    return [
        Kind("tracks npz", tracks, npzs(arrays), "tracks/a.npz", ("bench", "--data", "@"), frames),
        Kind("pickle", pickled[0], damaged(pickled), "x.pkl", published),
        Kind(
            "badja json",
            badja,
            texts((badja,), annotated),
            "joint_annotations/a.json",
            ("bench", "--dataset", "badja", "--path", "@"),
            (*_folder(), *masks),
        ),
    ]


@cache
def _model_kinds() -> list[Kind]:
    """Weights of optical flow, as both kinds of files, and the config of a model's folder."""
    import torch
    from safetensors.torch import save
    from tiny_published import save_tiny_dinov2  # imports large libraries
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    state = raft_small(weights=None).state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    arguments, patch = (
        ("--video", "@/frames", "--grid", "3"),
        ("features.extractor=patch", "flow.method=raft-small"),
    )
    kinds = [
        Kind(
            name,
            valid,
            damaged((valid,)),
            f"raft.{name}",
            arguments,
            _folder(),
            (*patch, f"flow.weights=@/raft.{name}"),
        )
        for name, valid in (("pth", file.getvalue()), ("safetensors", save(state)))
    ]
    with tempfile.TemporaryDirectory() as folder:
        save_tiny_dinov2(Path(folder))
        config = (Path(folder) / "config.json").read_bytes()
        weights = (Path(folder) / "model.safetensors").read_bytes()
    beside = (*_folder(), ("model/model.safetensors", weights))
    settings = (
        "features.extractor=dinov2",
        "features.dinov2.model=@/model",
        "working_size.height=64",
        "working_size.width=64",
    )
    damage = texts((config,), json.loads(config))
    kinds.append(Kind("model config", config, damage, "model/config.json", arguments, beside, settings))
    return kinds
