"""An endpoint that speaks OpenAI's chat completions, with a budget of requests and a hidden key."""

from __future__ import annotations

import json
import os
import re
import threading
from typing import Any
from urllib.parse import urlsplit

from splitkit.judging.judges import JudgeError

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4.1-mini"
REPLY_TOKENS = 200
"""Most tokens of a reply."""
NO_KEY = "none"


def named_endpoint() -> tuple[str, str]:
    """URL and model of the judge, as the environment names them."""
    url = os.environ.get("SPLITKIT_JUDGE_URL") or DEFAULT_URL
    return url, os.environ.get("SPLITKIT_JUDGE_MODEL") or DEFAULT_MODEL


class Unscored(Exception):
    """One request without a completion, by its kind (see `rubrics.KINDS`) and the problem.

    `said` is the server's word on it, if any.
    """

    def __init__(self, kind: str, problem: str, said: str = "") -> None:
        super().__init__(problem)
        self.kind, self.said = kind, said


class Endpoint:
    """An address, a model name and a key. The arguments are `LLMJudge`'s."""

    def __init__(
        self, url: str | None, model: str | None, *, budget: int | None, attempts: int, timeout: float
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise JudgeError("LLMJudge needs the openai package: pip install -e '.[judge]'") from error
        self._openai: Any = openai
        named = named_endpoint()
        self.url, self.model = _checked_url(url or named[0]), model or named[1]
        self.budget, self.attempts, self.requests = budget, attempts, 0
        self._key = _checked_key(self.url)
        self._lock = threading.Lock()
        hooks: Any = {"request": [self._spend], "response": [_stop_at_quota]}
        self._client = self._openai.OpenAI(
            api_key=self._key,
            base_url=self.url,
            timeout=timeout,
            max_retries=attempts - 1,
            http_client=self._openai.DefaultHttpxClient(event_hooks=hooks),
        )

    def complete(self, turns: Any, shape: dict[str, Any]) -> str:
        """The model's reply to a chat, greedy, in the shape of a JSON schema where the endpoint can do that.

        Unscored for a spent budget, a failure after all attempts, a response that is no chat completion;
        JudgeError when no request can succeed: nobody listens, or key, model or quota are refused.
        """
        form: Any = {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": shape}}
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=turns,
                temperature=0,
                max_tokens=REPLY_TOKENS,
                response_format=form,
            )
        except self._openai.APIStatusError as error:
            raise self._judged(error) from None
        except self._openai.APITimeoutError:
            raise Unscored("no reply", "timed out") from None
        except self._openai.APIConnectionError:
            raise JudgeError(
                f"no connection to {self.url} ({self.attempts} attempts). Is SPLITKIT_JUDGE_URL right and "
                "the server running? What was scored is kept."
            ) from None
        return self._redacted(_content(response.text))

    def _spend(self, request: object) -> None:
        """Count a request before it is sent, a repeated one like any other."""
        with self._lock:
            if self.budget is not None and self.requests >= self.budget:
                raise Unscored("not asked", f"the budget of {self.budget} requests is spent")
            self.requests += 1

    def _judged(self, error: Any) -> Unscored:
        """A failure of this request; raises JudgeError where no further request can succeed."""
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
        return Unscored("no reply", f"status {error.status_code}", said)

    def _redacted(self, text: str) -> str:
        """The text without the key, which a server may repeat."""
        plain = text if self._key == NO_KEY else text.replace(self._key, "[key]")
        return re.sub(r"\bsk-[\w*-]+", "[key]", plain)


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


def _stop_at_quota(response: Any) -> None:
    """Keep the client from repeating a request after a quota that is used up, which it takes for a limit."""
    if response.status_code == 429 and b"insufficient_quota" in response.read():
        response.headers["x-should-retry"] = "false"


def _content(body: str) -> str:
    """The text of a chat completion, empty for a refusal; Unscored where the body is none."""
    try:
        message = json.loads(body)["choices"][0]["message"]
        content = message["content"]
        if content is None and message.get("refusal"):
            return ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        content = None
    if not isinstance(content, str):
        raise Unscored("unparsable", "not a chat completion")
    return content
