"""The networks in PyTorch, as its users write them: eager or compiled, in either memory format.

Layout: frames are `[batch, channels, height, width]`, clips `[batch, time, channels, height,
width]`, in [0, 1].
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from peers import WORKS, Peer, Work

MODES = ("eager", "channels-last", "compile", "compile-channels-last")


class Cell(nn.Module):
    """A cell with one convolution of frame and state, as in ndrplz/ConvLSTM_pytorch and others."""

    def __init__(self, channels: int, features: int, size: int, relu: bool = False):
        super().__init__()
        self.features = features
        self.conv = nn.Conv2d(channels + features, 4 * features, size, padding=size // 2)
        self.activate = torch.relu if relu else torch.tanh

    def forward(self, frame: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o, g = torch.split(self.conv(torch.cat([frame, h], 1)), self.features, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * self.activate(g)
        return torch.sigmoid(o) * self.activate(c), c


class SplitCell(nn.Module):
    """A cell with separate convolutions of frame and state, without bias, as in OpenSTL."""

    def __init__(self, channels: int, features: int, size: int):
        super().__init__()
        self.features = features
        self.frame = nn.Conv2d(channels, 4 * features, size, padding=size // 2, bias=False)
        self.state = nn.Conv2d(features, 4 * features, size, padding=size // 2, bias=False)

    def forward(self, frame: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i_x, f_x, g_x, o_x = torch.split(self.frame(frame), self.features, 1)
        i_h, f_h, g_h, o_h = torch.split(self.state(h), self.features, 1)
        c = torch.sigmoid(f_x + f_h + 1.0) * c + torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)
        return torch.sigmoid(o_x + o_h) * torch.tanh(c), c


def states(like: Tensor, features: int, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    """Zero states for a frame `[batch, channels, height, width]`."""
    zeros = like.new_zeros((len(like), features, *like.shape[2:]))
    return (zeros.contiguous(memory_format=layout),) * 2


def unroll(cell: nn.Module, maps: Tensor, layout: torch.memory_format) -> Tensor:
    """All hidden states of a cell for maps `[batch, time, channels, height, width]`."""
    h, c = states(maps[:, 0], cell.features, layout)
    outputs = []
    for time in range(maps.shape[1]):
        h, c = cell(maps[:, time], h, c)
        outputs.append(h)
    return torch.stack(outputs, 1)


class KerasExample(nn.Module):
    """The network of the keras.io example with its own head, which reads the next frame too."""

    def __init__(self, layout: torch.memory_format):
        super().__init__()
        self.layout = layout
        self.cells = nn.ModuleList(
            Cell(channels, 64, size, relu=True) for channels, size in ((1, 5), (64, 3), (64, 1))
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(64, eps=1e-3, momentum=0.01) for _ in range(2))
        self.head = nn.Conv3d(64, 1, 3, padding=1)

    def forward(self, frames: Tensor, truth: Tensor | None = None) -> Tensor:
        hidden = frames
        for index, cell in enumerate(self.cells):
            hidden = unroll(cell, hidden, self.layout).transpose(1, 2)  # channels, then time
            hidden = (self.norms[index](hidden) if index < 2 else hidden).transpose(1, 2)
        return torch.sigmoid(self.head(hidden.transpose(1, 2)).transpose(1, 2))


class OpenSTL(nn.Module):
    """OpenSTL's ConvLSTM-S on patches of 4x4 pixels: all layers at each time step in turn."""

    def __init__(self, layout: torch.memory_format, work: Work):
        super().__init__()
        self.layout, self.given, self.ahead = layout, work.given, work.predicted
        self.cells = nn.ModuleList(SplitCell(c, 128, 5) for c in (16, 128, 128, 128))
        self.head = nn.Conv2d(128, 16, 1, bias=False)

    def forward(self, frames: Tensor, truth: Tensor | None = None) -> Tensor:
        """Predict the frame after each frame read.

        Args:
          frames: those given, `[batch, given, 16, height / 4, width / 4]`.
          truth: the true frames after them, `[batch, predicted - 1, ...]`, and the weight of the
            true frame, `[batch, 1, 1, 1]`: 1 reads it, 0 the prediction. None reads predictions.
        """
        state = [states(frames[:, 0], 128, self.layout) for _ in self.cells]
        outputs: list[Tensor] = []
        for time in range(self.given + self.ahead - 1):
            later = time - self.given
            if later < 0:
                hidden = frames[:, time]
            elif truth is None:
                hidden = outputs[-1]
            else:
                hidden = truth[0][:, later] * truth[1] + outputs[-1] * (1 - truth[1])
            for index, cell in enumerate(self.cells):
                state[index] = cell(hidden, *state[index])
                hidden = state[index][0]
            outputs.append(self.head(hidden))
        return torch.stack(outputs, 1)


class Seq2One(nn.Module):
    """Strided encoder, two ConvLSTM layers, decoder with skip connections; predicts the change."""

    def __init__(self, layout: torch.memory_format):
        super().__init__()
        self.layout = layout
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, 2, 1) for a, b in ((3, 16), (16, 32), (32, 64))
        )
        self.cells = nn.ModuleList(Cell(64, 64, 3) for _ in range(2))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((64, 64), (96, 32), (48, 16))
        )
        self.head = nn.Conv2d(19, 3, 3, padding=1)

    def forward(self, frames: Tensor, truth: Tensor | None = None) -> Tensor:
        batch, time = frames.shape[:2]
        maps = [frames.flatten(0, 1).contiguous(memory_format=self.layout)]
        for conv in self.down:
            maps.append(leaky_relu(conv(maps[-1]), 0.2))
        hidden = maps[-1].unflatten(0, (batch, time))
        for cell in self.cells:
            hidden = unroll(cell, hidden, self.layout)
        decoded = hidden[:, -1]
        for conv, skip in zip(self.up, maps[-2::-1]):
            last = skip.unflatten(0, (batch, time))[:, -1]
            decoded = torch.cat([leaky_relu(conv(decoded), 0.2), last], 1)
        return (frames[:, -1] + self.head(decoded))[:, None]


class Seq2OneLSTM(nn.Module):
    """Seven strided convolutions, an LSTM at a 1x1 bottleneck, seven transposed convolutions."""

    def __init__(self, layout: torch.memory_format):
        super().__init__()
        self.layout = layout
        down = (3, 32, 64, 128, 256, 512, 512, 1024)
        stages: list[nn.Module] = []
        for a, b in itertools.pairwise(down):
            stages += [nn.Conv2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        self.down = nn.Sequential(*stages)
        self.before, self.after = nn.Linear(1024, 1024), nn.Linear(1024, 1024)
        self.lstm = nn.LSTM(1024, 1024, batch_first=True)
        up, strides = (1024, 512, 256, 128, 64, 32, 16, 3), (1, 2, 1, 2, 1, 2, 2)
        stages = []
        for index, (a, b, stride) in enumerate(zip(up, up[1:], strides)):
            stages.append(nn.ConvTranspose2d(a, b, 4, stride, padding=int(index == 6)))
            if index < 6:
                stages += [nn.BatchNorm2d(b), nn.ReLU()]
        self.up = nn.Sequential(*stages, nn.Sigmoid())

    def forward(self, frames: Tensor, truth: Tensor | None = None) -> Tensor:
        batch, time = frames.shape[:2]
        maps = self.down(frames.flatten(0, 1).contiguous(memory_format=self.layout))
        hidden, _ = self.lstm(self.before(maps.flatten(1)).unflatten(0, (batch, time)))
        return self.up(torch.relu(self.after(hidden[:, -1]))[:, :, None, None])[:, None]


def network(work: Work, layout: torch.memory_format) -> nn.Module:
    """The network of a work."""
    if work.name == "openstl":
        return OpenSTL(layout, work)
    return {"keras-example": KerasExample, "seq2one": Seq2One, "seq2one-lstm": Seq2OneLSTM}[
        work.name
    ](layout)


def build(work: str, mode: str, batch: int, dtype: str, forecast: bool) -> Peer:
    """Build a network; see `peers`.

    On a GPU float32 may be computed in tf32, as in JAX; bfloat16 is PyTorch's autocast.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    settings = WORKS[work]
    last = "channels-last" in mode
    layout = torch.channels_last if last else torch.contiguous_format
    model = network(settings, layout).to(device)
    # The 3-D convolution of keras-example has no such memory format.
    if last and work != "keras-example":
        model = model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=device.type == "cuda")
    height, width, channels = settings.frame
    length = settings.given + settings.predicted
    if work == "openstl":  # its network reads patches of 4x4, which OpenSTL cuts outside of it
        height, width, channels = height // 4, width // 4, 16 * channels
    clips = torch.rand((batch, length, channels, height, width), device=device)
    given = clips[:, : settings.given]
    targets = clips[:, 1:] if settings.dense_targets else clips[:, settings.given :]
    truth = None
    if work == "openstl" and not forecast:
        truth = clips[:, settings.given : -1], torch.rand((batch, 1, 1, 1), device=device).round()
    criterion: Any = nn.BCELoss() if work == "keras-example" else nn.MSELoss()
    forward = torch.compile(model) if "compile" in mode else model

    def predict() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return forward(given, truth)

    def step() -> None:
        if forecast:
            with torch.inference_mode():
                predict()
            return
        optimizer.zero_grad(set_to_none=True)
        criterion(predict().float(), targets).backward()
        optimizer.step()

    def run(count: int) -> None:
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    if forecast:
        model.eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "versions": {"torch": torch.__version__},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }
    return Peer(run, parameters, facts)
