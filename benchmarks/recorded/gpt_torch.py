"""A GPT in PyTorch whose training steps by AdamW are recorded by hooks: `record(path, steps)`."""

# PyTorch is optional.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from compare.check.writers.backproof_record import ModuleRecording

BATCH, TIME, WIDTH, HEADS, LAYERS, VOCABULARY = 2, 6, 8, 2, 4, 13


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.projection = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        q, k, v = self.qkv(self.norm1(x)).view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TIME, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids: Any) -> Any:
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.token.weight.T


def record(path: Any, steps: int = 2, layers: int = LAYERS) -> None:
    """Train a GPT for some steps, and record them.

    Args:
        path: the file of the recording.
        steps: the number of steps.
        layers: the number of blocks of the GPT.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gpt(layers)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        with ModuleRecording(path, model, [f"blocks.{i}" for i in range(layers)]) as recording:
            for _ in range(steps):
                text = torch.randint(VOCABULARY, (BATCH, TIME + 1))
                recording.start(ids=text[:, :-1], targets=text[:, 1:])
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
                loss.backward()
                recording.gradients(loss)
                optimizer.step()
                recording.updated()
