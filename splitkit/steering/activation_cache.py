"""Rows: recorded sequences one by one without padding, which the trainings of one task can share."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.replay import Replay
from splitkit.steering.tokenization import Encoded, batches

Rows = list[dict[str, Tensor]]
"""The unpadded activations (token, ...) of each sequence; see `recording.Recording`."""

MOST = 2**28
"""Bytes that a `SharedRows` holds at most: what is larger is recorded for each training anew."""


def record_rows(replay: Replay, tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Encoded]) -> Rows:
    """The rows of all sequences, from one pass over them."""
    rows: dict[int, dict[str, Tensor]] = {}
    for batch in batches(tokenizer, sequences):
        rows.update(replay.record(batch).rows())
    return [rows[index] for index in range(len(sequences))]


class SharedRows:
    """The rows recorded last, for trainings one after the other on the same model, layer and pairs.

    Below the steered layer nothing depends on form, objective or seed, so that all cells of a task can share
    one recording, to the last bit. `MOST` bytes at most are held; `clear` lets go of them.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Hold nothing."""
        self._model: PreTrainedModel | None = None
        self._of: tuple[object, ...] = ()
        self._rows: Rows = []

    def record(
        self,
        model: PreTrainedModel,
        replay: Replay,
        tokenizer: PreTrainedTokenizerBase,
        sequences: Sequence[Encoded],
    ) -> Rows:
        """As `record_rows` gives them for a `replay` of `model`, which must not have changed meanwhile."""
        of = (replay.sites.layer, replay.device, tokenizer.padding_side, tuple(sequences))
        same = self._model is model and self._of == of
        # a vector's recording lacks what a weight form needs; the other way round there is only more
        if not (same and (replay.form == "vector" or "down_input" in self._rows[0])):
            # before the next are recorded: both may not fit
            self.clear()
            rows = record_rows(replay, tokenizer, sequences)
            if sum(values.nbytes for row in rows for values in row.values()) > MOST:
                return rows
            self._model, self._of, self._rows = model, of, rows
        return self._rows
