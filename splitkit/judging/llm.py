"""A language model as judge, over any endpoint that speaks OpenAI's chat completions.

Its replies are kept on disk under a hash of everything that was asked: a rerun costs nothing, and a stopped
run goes on where it was. Needs the extra: pip install -e '.[judge]'.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from splitkit.judging.endpoint import REPLY_TOKENS, Endpoint, Unscored
from splitkit.judging.judges import JudgeError, judged
from splitkit.judging.replies import Replies
from splitkit.judging.rubrics import Case, Score, cases, messages, missing, parse_reply, schema
from splitkit.storage import paths
from splitkit.storage.files import check_writable

GIVE_UP = 10
"""Cases in a row without a reply, each after all its attempts, by which an endpoint counts as broken."""


class LLMJudge:
    """Grades answers by asking a model, one request per answer and rubric, at temperature 0.

    The endpoint, the model and the key come from SPLITKIT_JUDGE_URL (default: OpenAI's), SPLITKIT_JUDGE_MODEL
    (default: gpt-4.1-mini) and OPENAI_API_KEY; endpoints of your own may do without a key.

    Args:
        url, model: instead of the environment's.
        budget: requests this judge may send, failed ones counted; None: no limit. When it is spent, what is
            scored is kept and the rest is NaN, "not asked".
        concurrency: requests at a time.
        attempts: sendings of a request that meets a stall, a rate limit or a server's error. A server that
            asks for a wait of up to a minute (Retry-After) gets it.
        timeout: silence, in seconds, after which a request has stalled.
        cache: the folder of replies (default: .cache/judge); remove it to ask anew.

    Raises:
        JudgeError: without the `openai` package, or for a URL or key that cannot be one. No message, log,
            file or table ever holds the key.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        model: str | None = None,
        budget: int | None = None,
        concurrency: int = 8,
        attempts: int = 5,
        timeout: float = 60.0,
        cache: Path | None = None,
        progress: bool = True,
    ) -> None:
        self.endpoint = Endpoint(url, model, budget=budget, attempts=attempts, timeout=timeout)
        self.concurrency, self.progress = concurrency, progress
        self.replies = Replies(paths.CACHE / "judge" if cache is None else cache)

    @property
    def requests(self) -> int:
        """Requests sent so far, failed ones counted."""
        return self.endpoint.requests

    def score(self, task: str, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """See `judges.Judge.score`; a concept may be any text: "axbench/<concept>".

        Raises:
            JudgeError: when the endpoint cannot be reached, refuses the key, the model or the quota, or fails
                `GIVE_UP` cases in a row, or when the disk is full. What was scored is kept: the same call
                goes on from there.
            ValueError: no answer, other numbers of questions and answers, or a task without a rubric.
            TypeError: one string instead of a list, or an entry that is no string.
        """
        check_writable(self.replies.folder)
        return judged(cases(task, questions, answers), self._ask)

    def _ask(self, open_cases: list[Case]) -> dict[Case, Score]:
        recalled = {case: self.replies.recall(self._asked(case), case.rubric) for case in open_cases}
        known = {case: score for case, score in recalled.items() if score is not None}
        stop, failures = threading.Event(), 0
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="judge")
        with tqdm(total=len(open_cases), initial=len(known), desc="judge", disable=not self.progress) as bar:
            # no more than are asked at once are handed out: a server that fails is not asked on meanwhile
            waiting = iter([case for case in open_cases if case not in known])
            futures = {
                pool.submit(self._judge, case, stop): case for case in islice(waiting, self.concurrency)
            }
            try:
                while futures:
                    future = next(as_completed(futures))
                    case = futures.pop(future)
                    known[case], said = future.result()
                    score = known[case]
                    failures = failures + 1 if score.kind == "no reply" else 0
                    if failures == GIVE_UP:
                        raise JudgeError(
                            f"{self.endpoint.url} failed {GIVE_UP} cases in a row, the last with: "
                            f"{score.detail}{f' ({said})' if said else ''}. What was scored is kept; the "
                            "same call goes on from there."
                        )
                    bar.update()
                    futures |= {pool.submit(self._judge, one, stop): one for one in islice(waiting, 1)}
            finally:
                # after an error or Ctrl-C: nothing more is asked, what is on its way is still kept
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        return known

    def _judge(self, case: Case, stop: threading.Event) -> tuple[Score, str]:
        """The score of one case, whose reply is kept whatever it says, and the server's word on a failure."""
        if stop.is_set():
            return missing("not asked", "the run was stopped"), ""
        code = secrets.token_hex(8)
        while any(code in text for _, text in case.shown):
            code = secrets.token_hex(8)
        try:
            reply = self.endpoint.complete(messages(case, code), schema(case.rubric))
            self.replies.keep(
                self._asked(case), model=self.endpoint.model, case=asdict(case), code=code, reply=reply
            )
        except Unscored as failure:
            return missing(failure.kind, str(failure)), failure.said
        except JudgeError:
            stop.set()  # here and not only where it is caught: until then this thread would go on asking
            raise
        return parse_reply(reply, code, case.rubric), ""

    def _asked(self, case: Case) -> list[object]:
        """Everything that is asked except the code."""
        where = [self.endpoint.url, self.endpoint.model, REPLY_TOKENS]
        return [*where, messages(case, ""), asdict(case), schema(case.rubric)]
