"""Cross-attention of CLCAE (arXiv 2211.11448, section 3.2), as its public code has it and as the paper writes it.

Softmax over one key is 1 whatever the query is. Both give each query a single key, so both attend to nothing: the
output is a function of that key alone. ``tests/encoders/test_clcae.py`` proves it.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Queries = Float[Tensor, "n q dim"]
Tokens = Float[Tensor, "n k token_dim"]


class CrossAttentionBlock(nn.Module):
    """Multi-head attention from queries to tokens, then a feed-forward network, each with a residual and LayerNorm.

    As coded in public: out = LN(y + FFN(y)), y = LN(q + attention(q, tokens)). Parameters bear the public names;
    ``norm1`` of the self-attention that once stood before it is in the files and is not used.
    """

    def __init__(self, dim: int, token_dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(
            dim, heads, dropout, kdim=token_dim, vdim=token_dim, batch_first=True
        )
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim).requires_grad_(False)
        self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def attend(self, queries: Queries, tokens: Tokens) -> Queries:
        """What the queries read from the tokens, without residual and feed-forward network."""
        return self.multihead_attn(queries, tokens, tokens, need_weights=False)[0]

    def forward(self, queries: Queries, tokens: Tokens) -> Queries:
        y = self.norm2(queries + self.dropout(self.attend(queries, tokens)))
        return self.norm3(y + self.dropout(self.linear2(self.dropout(self.linear1(y).relu()))))


class PrintedAttention(nn.Module):
    """Softmax(Q K^T / sqrt(d)) V with multiple heads and no more, as Eq. 4 and 5 print it: Q = queries W_Q,
    K = tokens W_K, V = tokens W_V."""

    def __init__(self, dim: int, token_dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of {dim}, got {heads}")
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key, self.value = (nn.Linear(token_dim, dim, bias=False) for _ in range(2))

    def forward(self, queries: Queries, tokens: Tokens) -> Queries:
        parts = self.query(queries), self.key(tokens), self.value(tokens)
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in parts)
        # Eq. 4: Softmax(Q K^T / sqrt(d)) V, d of each head
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    attend = forward
