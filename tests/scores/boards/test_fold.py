"""A slice in portions: what a script or a transaction gets of it."""

from __future__ import annotations

from scores.boards.fold import Move, Part, Rules, Slice, Source

RULES = [Rules(number, Source(None, None), "sum", 1, is_first=True, rewarder="") for number in range(5)]
MOVES = [Move(f"user{number}", 1, number) for number in range(3)]
# Board 4 has no events in this slice, and must move all the same.
SLICE = Slice(
    before=0,
    last=9,
    boards=RULES,
    parts=[
        Part("sum", MOVES, [(RULES[0], 1), (RULES[1], 1), (RULES[2], 7)]),
        Part("best", MOVES[:1], [(RULES[3], 2)]),
        Part("sum", MOVES[:2], [(RULES[0], 2)]),
    ],
    derived=["ann"],
)


def test_portions_have_every_board_with_all_that_moves_it_once() -> None:
    for rows in range(1, 15):
        portions = SLICE.portions(rows)

        assert [board for portion in portions for board in portion.boards] == RULES
        assert {(p.before, p.last, *p.derived) for p in portions} == {(0, 9, "ann")}
        for board in RULES:
            (portion,) = (p for p in portions if board in p.boards)
            assert _moves_of(board, portion) == _moves_of(board, SLICE)
            others = {b.id for part in portion.parts for b, _ in part.boards} - {b.id for b in portion.boards}
            assert not others


def test_a_portion_is_no_larger_than_allowed_unless_it_is_one_board() -> None:
    def boards(rows: int, derived: dict[int, int]) -> list[list[int]]:
        return [[board.id for board in portion.boards] for portion in SLICE.portions(rows, derived=derived)]

    assert boards(1, {}) == [[0], [1], [2], [3, 4]]  # of 5, 3, 3, 1 and no rows
    assert boards(6, {}) == [[0], [1, 2], [3, 4]]
    assert boards(12, {}) == [[0, 1, 2, 3, 4]]
    assert boards(12, {4: 1}) == [[0, 1, 2, 3], [4]]


def _moves_of(board: Rules, slice_: Slice) -> list[tuple[str, int, list[Move]]]:
    return [(part.fold, n, part.moves) for part in slice_.parts for b, n in part.boards if b == board]
