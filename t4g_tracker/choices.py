"""Settings and options with a fixed choice of values, apart from the code so that ``--help`` stays fast."""

from __future__ import annotations

from typing import Literal

SingleExtractor = Literal["patch", "track4gen-mini", "track4gen", "svd", "zeroscope", "dinov2", "dino"]
Extractor = Literal[SingleExtractor, "fused"]
Facet = Literal["token", "query", "key", "value"]  # of a layer of an image transformer
FlowMethod = Literal["auto", "dis", "raft-mini", "raft-small", "raft-large"]
AdapterKind = Literal["lite", "delta-cnn"]
HeadKind = Literal["softmax", "cnn"]
Precision = Literal["auto", "float32", "bfloat16"]
QueryMode = Literal["strided", "first"]  # which points of TAP-Vid's annotations are tracked
Resolution = Literal["stored", "480p", "256"]
VideoMeasure = Literal["clipsim", "lpips", "motion"]
LpipsBackbone = Literal["alex", "vgg", "squeeze"]
DatasetName = Literal[
    "folder", "synthetic-val", "tapvid-davis", "tapvid-kinetics", "rgb-stacking", "robotap", "badja"
]
