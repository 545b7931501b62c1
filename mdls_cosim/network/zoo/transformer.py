"""A small vision transformer."""

from __future__ import annotations

from torch import Tensor, nn

from mdls_cosim.errors import ConfigError


class PositionEmbedding(nn.Embedding):
    """y_t = x_t + p_t: a trained vector for each place in the sequence."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tokens + self.weight


class VisionTransformer(nn.Module):
    """Patches as tokens, transformer encoder layers, the mean over the tokens, one linear layer: see `transformer`."""

    def __init__(self, patches: nn.Conv2d, tokens: int, blocks: list[nn.TransformerEncoderLayer], classes: int) -> None:
        super().__init__()
        width = patches.out_channels
        self.patches = patches
        self.positions = PositionEmbedding(tokens, width)
        # A sequence of layers made one by one: nn.TransformerEncoder copies one layer, initial weights and all.
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (batch, tokens, width)
        return self.head(self.norm(self.blocks(self.positions(tokens))).mean(dim=1))


def transformer(
    classes: int,
    channels: int,
    size: int,
    *,
    patch: int = 4,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    hidden: int = 256,
    dropout: float = 0.1,
) -> VisionTransformer:
    """A small vision transformer of torch's own encoder layers, normalised first.

    t = patches W + p;  t += attention(norm(t));  t += W_2 gelu(W_1 norm(t));  logits = W_h mean(norm(t)) + b

    545 930 parameters at three channels of 32x32 and 10 classes (64 tokens), 534 154 at one channel of 8x8 (4 tokens).

    Args:
        patch: pixels along an edge of a patch; divides the size of the image.
        width: numbers in a token; `heads` divides it.
        depth: encoder layers.
        hidden: width of the layer inside each encoder layer.
        dropout: part of the numbers dropped in training, 0 … 1.

    Source: Vaswani et al. 2017, doi:10.48550/arXiv.1706.03762; Dosovitskiy et al. 2020, doi:10.48550/arXiv.2010.11929.
    Left out: the class token, for which the mean over the tokens stands.
    """
    if size % patch:
        divisors = ", ".join(str(number) for number in range(1, size) if size % number == 0)
        raise ConfigError("patches do not fill the image", where="patch", value=patch, limit=f"one of {divisors}")
    if width % heads:
        raise ConfigError("heads do not share a token evenly", where="heads", value=heads, limit=f"divides {width}")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError("no part of the whole", where="dropout", value=dropout, limit="0 or more, below 1")
    patches = nn.Conv2d(channels, width, patch, stride=patch)
    blocks = [
        nn.TransformerEncoderLayer(width, heads, hidden, dropout, "gelu", batch_first=True, norm_first=True)
        for _ in range(depth)
    ]
    return VisionTransformer(patches, (size // patch) ** 2, blocks, classes)
