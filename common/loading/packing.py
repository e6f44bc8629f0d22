"""How checkpoints of the zoo store a body in few bytes, as tensors of a safetensors file.

Networks: every large matrix as int8 with one fp16 scale for each of its rows, other floating tensors as fp16. Rounding
is done once, when a checkpoint is written. The product of an int8 and an fp16 is exact in fp32, so what is read is the
same on every machine.

Trees: nothing is rounded but the leaves' shares, to fp16. Nodes are stored in preorder, one tree behind the other, which
says how they hang together; numbers that come again are stored once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from carom.common.models.trees import LEAF, Grown, TreeEnsemble

LARGE = 4096  # numbers from which on a matrix is stored as int8
LEVELS = 127  # of int8 to either side of 0
SCALE = "scale of "
CODES = "places of "


def pack(body: nn.Module | TreeEnsemble) -> dict[str, Tensor]:
    """What a checkpoint of `body` holds."""
    if isinstance(body, TreeEnsemble):
        return _pack_trees(body)
    packed: dict[str, Tensor] = {}
    for name, tensor in body.state_dict().items():
        if not tensor.is_floating_point():
            packed[name] = tensor
        elif tensor.ndim < 2 or tensor.numel() < LARGE:
            packed[name] = tensor.half().contiguous()
        else:
            packed[name], packed[SCALE + name] = quantise(tensor)
    return packed


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the network that was packed, floating tensors as fp32."""
    state = {}
    for name, tensor in tensors.items():
        if name.startswith(SCALE):
            continue
        scale = tensors.get(SCALE + name)
        if scale is not None:
            tensor = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def precision(tensors: Mapping[str, Tensor]) -> str:
    """The types in which the floating numbers of a packed body are stored, in words."""
    named = {torch.int8: "int8 rows with fp16 scales", torch.float16: "fp16", torch.float32: "fp32"}
    found = {tensor.dtype for name, tensor in tensors.items() if not name.startswith(SCALE)}
    return ", ".join(words for dtype, words in named.items() if dtype in found)


def quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """float[R, ...] as int8[R, ...] and fp16[R]; their product is off by at most half a scale of the row, beside the
    rounding of the matrix to fp16.

    It is rounded to fp16 first, so that a checkpoint of fp16 gives the same numbers as the training that made it.
    """
    rows = matrix.half().float().contiguous()
    most = rows.flatten(1).abs().amax(1)
    scale = (most / LEVELS).half()
    short = scale.float() * LEVELS < most  # rounded down: the next larger fp16, so that nothing is cut off
    scale = torch.where(short, (scale.view(torch.int16) + 1).view(torch.float16), scale)
    step = torch.where(scale > 0, scale, 1).float().view(-1, *[1] * (matrix.ndim - 1))
    return (rows / step).round().to(torch.int8), scale


def _pack_trees(trees: TreeEnsemble) -> dict[str, Tensor]:
    left, right = trees.left.numpy(), trees.right.numpy()
    order = [(tree, node) for tree in range(trees.trees) for node in _preorder(left[tree], right[tree])]
    tree, node = np.array(order).T
    leaf = left[tree, node] == LEAF
    inner = tree[~leaf], node[~leaf]
    feature = np.where(leaf, LEAF, trees.feature.numpy()[tree, node])
    value = trees.value if trees.additive else trees.value.half()
    return {
        "feature": torch.from_numpy(feature.astype(np.int16)),
        **_once("threshold", trees.threshold.numpy()[inner]),
        **_once("value", value.numpy()[tree[leaf], node[leaf]]),
        **({} if trees.base is None else {"base": trees.base}),
    }


def unpack_trees(tensors: Mapping[str, Tensor]) -> TreeEnsemble:
    """The trees that were packed, their nodes numbered in preorder."""
    feature, threshold, value = tensors["feature"].numpy(), _all("threshold", tensors), _all("value", tensors)
    base = tensors.get("base")
    grown, start, inner = [], 0, 0
    while start < len(feature):
        left, right = _hang(feature[start:])
        used = feature[start : start + len(left)]
        leaf = used == LEAF
        thresholds = np.zeros(len(used), threshold.dtype)
        thresholds[~leaf] = threshold[inner : inner + (~leaf).sum()]
        values = np.zeros((len(used), value.shape[1]), value.dtype)
        values[leaf] = value[start - inner : start - inner + leaf.sum()]
        grown.append(Grown(left, right, used, thresholds, values))
        start, inner = start + len(used), inner + (~leaf).sum()
    return TreeEnsemble.of(grown, None if base is None else base.numpy())


def _preorder(left: NDArray[np.int64], right: NDArray[np.int64]) -> list[int]:
    """The nodes of one tree: each before all that lie to its left, and these before all that lie to its right."""
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if left[node] != LEAF:
            waiting += [int(right[node]), int(left[node])]
    return order


def _hang(feature: NDArray[np.int16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """left and right int64[M] of the tree whose nodes in preorder begin `feature`, which holds LEAF at leaves."""
    left, right, waiting = [], [], []  # waiting: nodes whose right side has not begun
    for node, asked in enumerate(feature.tolist()):
        inner = asked != LEAF
        left.append(node + 1 if inner else LEAF)
        right.append(LEAF)
        if inner:
            waiting.append(node)
        elif waiting:
            right[waiting.pop()] = node + 1
        else:
            break
    return np.array(left), np.array(right)


def _once(name: str, rows: NDArray[np.generic]) -> dict[str, Tensor]:
    """The distinct rows and the place of each among them, where that is shorter than the rows."""
    distinct, places = np.unique(rows, axis=0, return_inverse=True)
    codes = places.reshape(-1).astype(np.uint16)
    if len(distinct) > np.iinfo(np.uint16).max + 1 or distinct.nbytes + codes.nbytes >= rows.nbytes:
        return {name: torch.from_numpy(rows.copy())}
    return {name: torch.from_numpy(distinct), CODES + name: torch.from_numpy(codes)}


def _all(name: str, tensors: Mapping[str, Tensor]) -> NDArray[np.generic]:
    rows, places = tensors[name].numpy(), tensors.get(CODES + name)
    return rows if places is None else rows[places.numpy()]
