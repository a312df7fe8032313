"""Replies of a judge, kept on disk under a hash of everything that it was asked."""

import hashlib
import json
from pathlib import Path

from splitkit.judging.judges import JudgeError
from splitkit.judging.rubrics import Score, parse_reply
from splitkit.storage.files import write_whole


class Replies:
    """A folder of replies, one JSON file each, written whole or not at all; remove it to ask anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, asked: list[object], **kept: object) -> None:
        """Keep a reply with its code; JudgeError when the disk refuses."""
        try:
            write_whole(self._file(asked), json.dumps(kept, indent=1) + "\n")
        except OSError as error:
            raise JudgeError(
                f"{self.folder} takes no more: {error}. What was scored is kept: make room, and the same "
                "call goes on from there."
            ) from error

    def recall(self, asked: list[object], rubric: str) -> Score | None:
        """The score that a kept reply gives; None where there is none, or its file is damaged."""
        try:
            kept = json.loads(self._file(asked).read_text(encoding="utf-8"))
            return parse_reply(str(kept["reply"]), str(kept["code"]), rubric)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _file(self, asked: list[object]) -> Path:
        name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"
