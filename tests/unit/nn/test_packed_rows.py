"""The mask and the places of packed rows, against plain loops."""

import torch

from genvlm.nn.packed_rows import document_mask, places_in_documents

IDS = torch.tensor([[0, 0, 0, 1, 1, 2, -1, -1], [0, 1, 1, 1, 1, 1, 1, 1], [-1] * 8])


def test_a_token_sees_itself_and_what_stands_before_it_in_its_document() -> None:
    mask = document_mask(IDS)
    assert mask.shape == (3, 1, 8, 8)
    for row in range(3):
        for query in range(8):
            for key in range(8):
                sees = key <= query and IDS[row, key] == IDS[row, query]
                assert bool(mask[row, 0, query, key]) == bool(sees)


def test_no_query_sees_nothing() -> None:
    assert document_mask(IDS).any(-1).all()


def test_places_begin_anew_with_each_document() -> None:
    assert places_in_documents(IDS).tolist() == [
        [0, 1, 2, 0, 1, 0, 0, 1],
        [0, 0, 1, 2, 3, 4, 5, 6],
        list(range(8)),
    ]
