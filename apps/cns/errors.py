"""What can become of a whole call to the CNS. Texts hold codes only, no address, no content."""

from __future__ import annotations


class CnsUnavailable(Exception):
    """No usable answer: try the same pushes again after `retry_after_s` seconds.

    Some of them may have gone out; their collapse ids make a repeat replace and not add.
    """

    def __init__(self, code: str, retry_after_s: float = 2.0) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after_s = retry_after_s


class CnsRefused(Exception):
    """The relay takes no call of ours until somebody has put something right; `code` says what."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
