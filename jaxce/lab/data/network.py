"""Whether anybody answers: one question in place of the many that libraries ask where there is no network."""

import contextlib
import threading

SECONDS_TO_ANSWER = 8.0


def answers(url: str) -> bool:
    """Whether anybody does, with whatever status, within SECONDS_TO_ANSWER."""
    import requests  # tensorflow_datasets brings it

    found = []

    def ask() -> None:
        with contextlib.suppress(requests.exceptions.RequestException):
            found.append(requests.head(url, timeout=SECONDS_TO_ANSWER))

    # Looking a name up has a time limit of its own, which requests does not know.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    return bool(found)
