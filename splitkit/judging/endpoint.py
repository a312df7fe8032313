"""An endpoint that speaks OpenAI's chat completions, asked with retries, a budget, and a key nobody sees."""

from __future__ import annotations

import email.utils
import json
import os
import random
import re
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from splitkit.judging.judges import JudgeError

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4.1-mini"
REPLY_TOKENS = 200
NO_KEY = "none"
PASSING = (408, 409, 425, 429)
"""Statuses below 500 that may be gone at the next attempt."""


class Unasked(Exception):
    """Nothing was sent: the budget is spent, or the run has been stopped."""


class NoReply(Exception):
    """No reply to this request; another one may have more luck. `said` is the server's word on it, if any."""

    def __init__(self, problem: str, said: str = "") -> None:
        super().__init__(problem)
        self.said = said


class Nonsense(Exception):
    """A response that is no chat completion."""


class Endpoint:
    """Where a model is asked: address, model name, key, and how patiently. The arguments are `LLMJudge`'s."""

    def __init__(
        self,
        url: str | None,
        model: str | None,
        *,
        budget: int | None,
        attempts: int,
        timeout: float,
        backoff: float,
        patience: float,
    ) -> None:
        self._openai = _import_openai()
        self.url = _checked_url(url or os.environ.get("SPLITKIT_JUDGE_URL") or DEFAULT_URL)
        self.model = model or os.environ.get("SPLITKIT_JUDGE_MODEL") or DEFAULT_MODEL
        self.budget, self.attempts, self.backoff, self.patience = budget, attempts, backoff, patience
        self.requests = 0
        self._key = _checked_key(self.url)
        self._not_before = 0.0
        self._lock = threading.Lock()
        # retries are ours: each counts against the budget, and a wait the server asks for holds for all
        self._client = self._openai.OpenAI(
            api_key=self._key, base_url=self.url, timeout=timeout, max_retries=0
        )

    def complete(self, turns: list[dict[str, str]], shape: dict[str, Any], stop: threading.Event) -> str:
        """The model's reply to a chat, greedy, in the shape of a JSON schema where the endpoint can do that.

        Args:
            stop: set it to have waiting requests given up; what is on its way still arrives.

        Raises:
            Unasked: see there. NoReply: after all attempts. Nonsense: see there.
            JudgeError: when no request can succeed: nobody listens, or key, model or quota are refused.
        """
        problem = NoReply("no attempt")
        for attempt in range(self.attempts):
            if attempt:
                pause = self.backoff * 2 ** (attempt - 1) * random.uniform(1, 1.25)
                stop.wait(min(self.patience, pause))
            while (pause := self._not_before - time.monotonic()) > 0 and not stop.wait(pause):
                pass
            self._spend(stop)
            try:
                return self._redacted(self._post(turns, shape))
            except self._openai.APIStatusError as error:
                problem = self._judged(error)
                if error.status_code < 500 and error.status_code not in PASSING:
                    break
                wait = _retry_after(error.response.headers)
                if wait > self.patience:
                    problem = NoReply(f"status {error.status_code}, asked to wait {wait:.0f} s", problem.said)
                    break
                with self._lock:
                    self._not_before = max(self._not_before, time.monotonic() + wait)
            except self._openai.APITimeoutError:
                problem = NoReply("timed out")
            except self._openai.APIConnectionError:
                problem = NoReply("no connection")
        if str(problem) == "no connection":
            raise JudgeError(
                f"no connection to {self.url} ({self.attempts} attempts). Is SPLITKIT_JUDGE_URL right and "
                "the server running? What was scored is kept."
            )
        raise problem

    def _post(self, turns: Any, shape: dict[str, Any]) -> str:
        form: Any = {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": shape}}
        response = self._client.chat.completions.with_raw_response.create(
            model=self.model, messages=turns, temperature=0, max_tokens=REPLY_TOKENS, response_format=form
        )
        return _content(response.text)

    def _spend(self, stop: threading.Event) -> None:
        if stop.is_set():
            raise Unasked("the run was stopped")
        with self._lock:
            if self.budget is not None and self.requests >= self.budget:
                raise Unasked(f"the budget of {self.budget} requests is spent")
            self.requests += 1

    def _judged(self, error: Any) -> NoReply:
        """The status as a `NoReply`; a JudgeError where no further request can mend it."""
        body = error.body if isinstance(error.body, dict) else {}
        said = " ".join(self._redacted(str(body.get("message") or "")).split())[:200]
        hopeless = {
            401: "the endpoint refused the key (401): check OPENAI_API_KEY",
            403: "the endpoint forbids this (403)",
            404: "no such model or path (404): check SPLITKIT_JUDGE_MODEL and SPLITKIT_JUDGE_URL",
        }
        wrong = hopeless.get(error.status_code)
        if body.get("code") == "insufficient_quota":
            wrong = f"the quota is used up ({error.status_code})"
        if wrong:
            raise JudgeError(f"{self.url}, model {self.model!r}: {wrong}. {said}".strip()) from None
        return NoReply(f"status {error.status_code}", said)

    def _redacted(self, text: str) -> str:
        """A server may repeat the key: it is taken out of whatever is kept or shown."""
        plain = text if self._key == NO_KEY else text.replace(self._key, "[key]")
        return re.sub(r"\bsk-[\w*-]+", "[key]", plain)


def _import_openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise JudgeError("LLMJudge needs the openai package: pip install -e '.[judge]'") from error
    return openai


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise JudgeError("SPLITKIT_JUDGE_URL is not an http(s) URL such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise JudgeError("SPLITKIT_JUDGE_URL holds more than an address; a key belongs in OPENAI_API_KEY")
    return url.rstrip("/")


def _checked_key(url: str) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and url == DEFAULT_URL:
        raise JudgeError(
            "no key: set OPENAI_API_KEY, or SPLITKIT_JUDGE_URL to an endpoint of yours that needs none"
        )
    if not re.fullmatch(r"[!-~]*", key):
        raise JudgeError("OPENAI_API_KEY holds characters that no key has (blanks, line ends, non-ASCII)")
    return key or NO_KEY


def _retry_after(headers: Any) -> float:
    """Seconds the server asks to wait (a number or a date), 0 where it does not say."""
    said = headers.get("retry-after") or ""
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 0.0


def _content(body: str) -> str:
    """The text of a chat completion, empty for a refusal; Nonsense where the body is none."""
    try:
        message = json.loads(body)["choices"][0]["message"]
        content = message["content"]
        if content is None and message.get("refusal"):
            return ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        content = None
    if not isinstance(content, str):
        raise Nonsense("not a chat completion")
    return content
