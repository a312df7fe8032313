"""A chat model on this machine as judge: the rubrics and the reading of `rubrics.py`, no endpoint.

What it said is kept on disk, batch by batch, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.judging.judges import judged
from splitkit.judging.replies import Replies
from splitkit.judging.rubrics import Case, Score, cases, messages, missing, parse_reply
from splitkit.steering import generation
from splitkit.steering.models import model_digest
from splitkit.steering.tokenization import prompt_ids
from splitkit.storage import paths
from splitkit.storage.files import check_writable


class LocalJudge:
    """Grades answers with a `transformers` chat model, greedy, one prompt per answer and rubric.

    Args:
        model, tokenizer: as `load_model` gives them; the tokenizer needs a chat template.
        reply_tokens: where a reply is cut that has not ended.
        batch_size: prompts at a time.
        cache: the folder of replies (default: .cache/judge); remove it to ask anew.

    Raises:
        ValueError: for a tokenizer without a chat template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        reply_tokens: int = 120,
        batch_size: int = 8,
        cache: Path | None = None,
        progress: bool = True,
    ) -> None:
        if not tokenizer.chat_template:
            raise ValueError("a judge has to be a chat model: this tokenizer has no chat template")
        self.model, self.tokenizer = model, tokenizer
        self.reply_tokens, self.batch_size, self.progress = reply_tokens, batch_size, progress
        self.replies = Replies(paths.CACHE / "judge" if cache is None else cache)
        added = tokenizer.added_tokens_decoder.values()
        self._special = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)

    def score(self, task: str, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """See `judges.Judge.score`; a concept may be any text: "axbench/<concept>".

        A prompt that leaves no room for a reply in the model's context is not asked, and counted.

        Raises:
            JudgeError: when the disk is full; what was scored is kept.
        """
        check_writable(self.replies.folder)
        return judged(cases(task, questions, answers), self._ask)

    def _ask(self, open_cases: list[Case]) -> dict[Case, Score]:
        room = getattr(self.model.config, "max_position_embeddings", None)
        recalled = {case: self.replies.recall(self._asked(case), case.rubric) for case in open_cases}
        scores = {case: score for case, score in recalled.items() if score is not None}
        asked: list[tuple[int, Case, str]] = []
        for case in (case for case in open_cases if case not in scores):
            prompt = self._prompt(case)
            length = len(prompt_ids(self.tokenizer, prompt))
            if room is not None and length + self.reply_tokens > room:
                scores[case] = missing("not asked", f"{length} tokens, the model's context is {room}")
            else:
                asked.append((length, case, prompt))
        asked.sort(key=lambda row: row[0])  # batches of similar length
        with tqdm(total=len(asked), desc="judge", disable=not self.progress) as bar:
            for start in range(0, len(asked), self.batch_size):
                batch = asked[start : start + self.batch_size]
                replies = generation.answers(
                    self.model,
                    self.tokenizer,
                    [prompt for _, _, prompt in batch],
                    max_new_tokens=self.reply_tokens,
                    batch_size=self.batch_size,
                )
                for (_, case, _), reply in zip(batch, replies, strict=True):
                    code = _code(case)
                    self.replies.keep(self._asked(case), case=asdict(case), code=code, reply=reply)
                    scores[case] = parse_reply(reply, code, case.rubric)
                bar.update(len(batch))
        return scores

    def _asked(self, case: Case) -> list[object]:
        """All that decides a greedy reply."""
        model = [model_digest(self.model), str(self.model.dtype), self.tokenizer.chat_template]
        return [*model, self.reply_tokens, self._prompt(case)]

    def _prompt(self, case: Case) -> str:
        """Rules and material as one turn: not every chat template has a system's."""
        return "\n\n".join(turn["content"] for turn in messages(case, _code(case), self._special))


def _code(case: Case) -> str:
    """A case's own code: the same at every run, so that greedy replies repeat, and not to be guessed by an
    answer, which would have to contain its own hash."""
    return hashlib.sha256(json.dumps(asdict(case)).encode()).hexdigest()[:16]
