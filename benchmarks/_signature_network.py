"""The small network that tries to tell cached copies from originals: fixed residual filters, then four learned layers.

Forensic networks look at what is left of an image when its content is taken away, because a network that is shown the
pixels learns the content first. The filters are first and second differences and the two SQUARE residuals of the
spatial rich model, on luma and on both chroma channels; what exceeds a few grey levels is cut off.

Source: Fridrich & Kodovsky 2012, "Rich models for steganalysis of digital images" (the filters); Xu, Wu & Shi 2016,
"Structural design of convolutional neural networks for steganalysis" (a fixed filter, absolute values behind the first
convolution, batch normalisation, global pooling); Ye, Ni & Yi 2017, "Deep learning hierarchical representations for
image steganalysis" (several filters, residuals cut off). Ours is smaller, and has colour: chroma is where 4:2:0 shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_RESIDUAL = 4.0
LEARNING_RATE = 3e-3

_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_SQUARE_3 = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))
_SQUARE_5 = ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1))
_WIDTHS = (18, 24, 32, 32, 48)
_STRIDES = (2, 1, 2, 2)


def make_residual_filters() -> Tensor:
    """Six filters for each channel of YCbCr, as one convolution of RGB: (18, 3, 5, 5)."""
    filters = torch.zeros(6, 5, 5)
    filters[0, 2, 2:4] = filters[1, 2:4, 2] = torch.tensor([-1.0, 1.0])
    filters[2, 2, 1:4] = filters[3, 1:4, 2] = torch.tensor([0.5, -1.0, 0.5])
    filters[4, 1:4, 1:4] = torch.tensor(_SQUARE_3) / 4
    filters[5] = torch.tensor(_SQUARE_5) / 12
    return torch.einsum("cr,fhw->cfrhw", torch.tensor(_TO_YCBCR), filters).reshape(18, 3, 5, 5)


class ResidualNet(nn.Module):
    """Logits that a patch went through the codec: (N, 3, H, W) uint8 to (N,) float32."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.empty(18, 3, 5, 5))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            for before, after, stride in zip(_WIDTHS[:-1], _WIDTHS[1:], _STRIDES, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in _WIDTHS[1:])
        self.head = nn.Linear(_WIDTHS[-1], 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Residuals, four convolutions, the mean over all places, one number."""
        features = F.conv2d(patches.float(), self.filters).clamp(-MAX_RESIDUAL, MAX_RESIDUAL)
        for depth, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            features = convolution(features)
            # The sign of a residual says nothing about where it came from; its size does.
            features = F.relu(norm(features.abs() if depth == 0 else features))
        logits: Tensor = self.head(features.mean((2, 3)))[:, 0]
        return logits


def make_network(generator: torch.Generator, /) -> ResidualNet:
    """A network whose weights come from this generator: modules initialise themselves from the global one."""
    with torch.device("meta"):
        network = ResidualNet()
    network = network.to_empty(device="cpu")
    network.filters = make_residual_filters()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network


def train_network(
    draw_pairs: Callable[[], tuple[np.ndarray, np.ndarray]], /, *, generator: torch.Generator, num_steps: int
) -> ResidualNet:
    """Train on batches of originals and copies of the same patches, so that only the codec tells the halves apart."""
    network = make_network(generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_steps)
    for _ in range(num_steps):
        originals, copies = draw_pairs()
        labels = torch.tensor([0.0, 1.0]).repeat_interleave(len(originals))
        optimizer.zero_grad()
        logits = network(_to_tensor(np.concatenate([originals, copies])))
        F.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def score_patches(network: ResidualNet, patches: np.ndarray, /) -> np.ndarray:
    """(N, H, W, 3) uint8 to (N,) logits, in small batches."""
    parts = np.array_split(patches, -(-len(patches) // 64))
    return torch.cat([network(_to_tensor(part)) for part in parts]).numpy()


def _to_tensor(patches: np.ndarray) -> Tensor:
    return torch.from_numpy(patches).permute(0, 3, 1, 2)
