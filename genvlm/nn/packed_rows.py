"""What tells documents of one row apart: a mask and places, both from the numbers of documents.

B batch, T tokens.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def document_mask(
    document_ids: Int[Tensor, "batch tokens"],
) -> Bool[Tensor, "batch 1 tokens tokens"]:
    """True where a query may see a key: itself and what stands before it in its own document.

    Padding must have a number too: a query that may see nothing would be NaN.
    """
    same = document_ids[:, None, :, None] == document_ids[:, None, None, :]
    return same.tril()


def places_in_documents(
    document_ids: Int[Tensor, "batch tokens"],
) -> Int[Tensor, "batch tokens"]:
    """0, 1, 2, ... anew in each run of one number."""
    places = torch.arange(document_ids.shape[1], device=document_ids.device).expand_as(document_ids)
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return places - torch.where(begins, places, 0).cummax(1).values
